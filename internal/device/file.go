package device

import (
	"fmt"
	"unicode/utf8"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	// maxBlobName is a device id, a slash and the longest name of a file.
	maxBlobName          = MaxIDLength + 1 + 1024
	maxUploadCorrelation = 2048
	maxUploadDescription = 1024
)

func validateUpload(u *eventsv1.FileUploaded) error {
	if u.GetBlob() == "" || len(u.GetBlob()) > maxBlobName || !utf8.ValidString(u.GetBlob()) {
		return fmt.Errorf("uploaded file has a name of %d bytes: use 1 to %d, in UTF-8", len(u.GetBlob()), maxBlobName)
	}
	if len(u.GetCorrelation()) > maxUploadCorrelation {
		return fmt.Errorf("correlation id of an upload has %d bytes: use at most %d", len(u.GetCorrelation()), maxUploadCorrelation)
	}
	if len(u.GetDescription()) > maxUploadDescription || !utf8.ValidString(u.GetDescription()) {
		return fmt.Errorf("status description of an upload has %d bytes: use at most %d, in UTF-8", len(u.GetDescription()), maxUploadDescription)
	}
	if u.GetBytes() < 0 {
		return fmt.Errorf("uploaded file has a negative size")
	}
	return nil
}
