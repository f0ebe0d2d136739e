package https

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// maxUploadBody bounds what a device says about an upload.
const maxUploadBody = 16 << 10

// maxDescription bounds what the log keeps of a device's description.
const maxDescription = 1024

// destination says where to put a file (FEATURES.md FILE-03).
type destination struct {
	CorrelationID string `json:"correlationId"`
	HostName      string `json:"hostName"`
	ContainerName string `json:"containerName"`
	BlobName      string `json:"blobName"`
	SASToken      string `json:"sasToken"`
}

// beginUpload gives a device an address to put a file to, good for an hour.
func (d *Door) beginUpload(w http.ResponseWriter, r *http.Request, c caller) error {
	var wanted struct {
		BlobName string `json:"blobName"`
	}
	if err := readJSON(w, r, &wanted); err != nil {
		return err
	}
	name, err := files.ParseName(c.tenant, c.device, wanted.BlobName)
	if err != nil {
		return because(failArgument, err)
	}
	now := time.Now()
	u := upload{name: name, expires: now.Add(uploadLife).Truncate(time.Second)}
	_, _ = rand.Read(u.id[:]) // never fails (crypto/rand)
	key := string(eventlog.Key(c.tenant, c.device))
	if !d.uploads.begin(key, u, now) {
		return failUploads
	}
	if !d.begins.Allow(key) {
		d.uploads.end(key, u.id)
		return failThrottled
	}
	to := destination{
		CorrelationID: d.signer.correlation(u), HostName: r.Host, ContainerName: c.tenant, BlobName: name.Blob(), SASToken: d.signer.token(u),
	}
	direct, ok, err := d.deps.Files.SignedURL(r.Context(), name, uploadLife)
	if err != nil {
		d.uploads.end(key, u.id)
		return within(failInternal, err)
	}
	if ok {
		to.at(direct)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(to) // the device may be gone
	return nil
}

// at has the device put the file into the store itself.
func (to *destination) at(u *url.URL) {
	container, blob, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	to.HostName, to.ContainerName, to.BlobName, to.SASToken = u.Host, container, blob, "?"+u.RawQuery
}

// result is what a device says became of an upload.
type result struct {
	CorrelationID     string `json:"correlationId"`
	IsSuccess         bool   `json:"isSuccess"`
	StatusCode        int32  `json:"statusCode"`
	StatusDescription string `json:"statusDescription"`
}

// endUpload takes the device's word that an upload has ended, well or not, and
// notes it on the log.
func (d *Door) endUpload(w http.ResponseWriter, r *http.Request, c caller) error {
	var ended result
	if err := readJSON(w, r, &ended); err != nil {
		return err
	}
	if inPath := r.PathValue("correlation"); inPath != "" { // Azure's SDK for Node has it there
		ended.CorrelationID = inPath
	}
	u, err := d.signer.parseCorrelation(ended.CorrelationID, c, time.Now())
	if err != nil {
		return because(failArgument, errors.New("the correlationId is not that of an upload of this device, or its hour is over"))
	}
	if d.uploads.ended.Contains(u.id) { // the device did not hear that it was noted
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	size, err := d.deps.Files.Size(r.Context(), u.name)
	if err != nil && !errors.Is(err, files.ErrNotFound) {
		return within(failInternal, err)
	}
	if ended.IsSuccess && err != nil {
		return because(failArgument, errors.New("the file is not here: put it first, or say isSuccess false"))
	}
	_, err = d.change(r.Context(), caller{tenant: c.tenant, device: c.device}, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_FileUploaded{FileUploaded: &eventsv1.FileUploaded{
		Blob: u.name.Blob(), Correlation: ended.CorrelationID, Bytes: size,
		Success: ended.IsSuccess, Status: ended.StatusCode, Description: shorten(ended.StatusDescription),
	}}})
	if err != nil {
		return err
	}
	d.uploads.end(string(eventlog.Key(c.tenant, c.device)), u.id)
	if err := d.deps.Files.Discard(r.Context(), u.id); err != nil {
		d.warn("cannot clear away an upload's blocks, trying again later", "device", c.device, "error", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func shorten(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxDescription {
		return s
	}
	cut := maxDescription
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := readBody(w, r, maxUploadBody)
	if err != nil {
		return eventFailure(err)
	}
	if json.Unmarshal(body, into) != nil {
		return because(failArgument, errors.New("the body is not the JSON that this call takes"))
	}
	return nil
}
