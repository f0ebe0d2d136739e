package files

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/device"
)

const (
	// MaxNameBytes and maxSegments are Azure Blob Storage's limits of a name.
	MaxNameBytes = 1024
	maxSegments  = 254
	// maxSegmentBytes is what file systems take; a sidecar's ending has room.
	maxSegmentBytes = 240
)

// ErrName is returned, with the reason, for a name that no file can have.
var ErrName = errors.New("the file's name is not valid")

// Name is a file's name: its tenant, its device, and the name the device gave
// it; or the platform's own. Only ParseName and OfOperation make one.
type Name struct{ tenant, device, file string }

// operations is where the files of device operations are. No tenant has a name
// like this.
const operations = ".operations/"

// OfOperation is the name of a file that belongs to a device operation. No upload
// of a device can have it. The parts hold letters, digits and `-` only.
func OfOperation(tenant, operation, file string) (Name, error) {
	for _, part := range []string{tenant, operation, file} {
		if part == "" || len(part) > maxSegmentBytes || strings.ContainsFunc(part, func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) {
			return Name{}, fmt.Errorf("%w: an operation's files have letters, digits and '-' in their names", ErrName)
		}
	}
	return Name{tenant: operations + tenant, device: operation, file: file}, nil
}

// ParseName checks a name. It may have segments, `logs/today.txt`; none of them
// is empty, `.` or `..`, and none holds a control character or a backslash.
func ParseName(tenant, deviceID, file string) (Name, error) {
	if tenant == "" || strings.ContainsAny(tenant, "/.") {
		return Name{}, fmt.Errorf("%w: no tenant", ErrName)
	}
	if err := device.ValidateID(deviceID); err != nil {
		return Name{}, fmt.Errorf("%w: %w", ErrName, err)
	}
	if deviceID == "." || deviceID == ".." {
		return Name{}, fmt.Errorf("%w: no device", ErrName)
	}
	if file == "" || len(file) > MaxNameBytes || !utf8.ValidString(file) {
		return Name{}, fmt.Errorf("%w: use 1 to %d bytes of UTF-8", ErrName, MaxNameBytes)
	}
	if strings.HasSuffix(file, ".attrs") { // the ending of what a directory keeps beside each file
		return Name{}, fmt.Errorf("%w: another ending than .attrs", ErrName)
	}
	if strings.ContainsFunc(file, func(r rune) bool { return unicode.IsControl(r) || r == '\\' }) {
		return Name{}, fmt.Errorf("%w: it holds a control character or a backslash", ErrName)
	}
	segments := strings.Split(file, "/")
	if len(segments) > maxSegments {
		return Name{}, fmt.Errorf("%w: at most %d segments", ErrName, maxSegments)
	}
	for _, segment := range segments {
		if segment == "" || strings.Trim(segment, ".") == "" || len(segment) > maxSegmentBytes {
			return Name{}, fmt.Errorf("%w: each segment has 1 to %d bytes, and not only dots", ErrName, maxSegmentBytes)
		}
	}
	return Name{tenant: tenant, device: deviceID, file: file}, nil
}

// ParseBlob is ParseName of `{device}/{file}`.
func ParseBlob(tenant, blob string) (Name, error) {
	deviceID, file, found := strings.Cut(blob, "/")
	if !found {
		return Name{}, fmt.Errorf("%w: write {device}/{file}", ErrName)
	}
	return ParseName(tenant, deviceID, file)
}

// Blob is `{device}/{file}`, as a device is told.
func (n Name) Blob() string { return n.device + "/" + n.file }

// Device is the id of the device whose file it is.
func (n Name) Device() string { return n.device }

// Tenant is whose device it is.
func (n Name) Tenant() string { return n.tenant }

// key is the file's name in the bucket.
func (n Name) key() string { return n.tenant + "/" + n.device + "/" + n.file }
