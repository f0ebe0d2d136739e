package https

import (
	"crypto/md5" //nolint:gosec // Azure's Content-MD5 guards against accidents, not people
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
)

const (
	// stallTimeout ends an upload from which nothing comes any more.
	stallTimeout = 30 * time.Second
	// maxBlockIDBytes is Azure's limit of a decoded block id.
	maxBlockIDBytes = 64
	// maxBlockListBytes has room for maxBlocks ids.
	maxBlockListBytes = 1 << 20
)

// The failures that Azure Blob Storage's clients know.
var (
	failBlobToken  = &failure{http.StatusForbidden, "AuthenticationFailed", "the address is not one that this platform gave out, or its hour is over: ask for a new one"}
	failBlobType   = &failure{http.StatusBadRequest, "InvalidHeaderValue", "only block blobs are taken: send x-ms-blob-type: BlockBlob"}
	failBlobDigest = &failure{http.StatusBadRequest, "Md5Mismatch", "the bytes do not have the MD5 that Content-MD5 says"}
	failBlobLarge  = &failure{http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "the file is larger than this platform takes (--max-file-bytes)"}
	failBlockID    = &failure{http.StatusBadRequest, "InvalidQueryParameterValue", "blockid is the base64 of 1 to 64 bytes"}
	failBlockList  = &failure{http.StatusBadRequest, "InvalidBlockList", "the body is a BlockList of blocks that were put before"}
	failComp       = &failure{http.StatusBadRequest, "UnsupportedQueryParameter", "this address takes Put Blob, Put Block and Put Block List"}
)

// answerBlob writes the failure as Azure Blob Storage does.
func (f *failure) answerBlob(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("x-ms-error-code", f.code)
	h.Set("x-ms-request-id", eventlog.NewID())
	h.Set("Connection", "close") // what still comes is not read
	w.WriteHeader(f.status)
	_, _ = io.WriteString(w, xml.Header) // the device may be gone
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: f.code, Message: f.message})
}

// putBlob takes in a file, as Azure Blob Storage's Put Blob does, or in blocks by
// Put Block and Put Block List. The query's signature says what may be written.
func (d *Door) putBlob(w http.ResponseWriter, r *http.Request) error {
	u, err := d.signer.parseToken(r.URL.Query(), r.PathValue("container"), r.PathValue("blob"), time.Now())
	if err != nil {
		return failBlobToken
	}
	return d.withinDevice(u.name.Tenant(), u.name.Device(), func() error { return d.takeBlob(w, r, u) })
}

func (d *Door) takeBlob(w http.ResponseWriter, r *http.Request, u upload) error {
	if r.ContentLength < 0 {
		return failLength
	}
	query := r.URL.Query()
	comp, limit := query.Get("comp"), d.cfg.MaxFileBytes
	if comp == "blocklist" {
		limit = maxBlockListBytes
	}
	if r.ContentLength > limit {
		return failBlobLarge
	}
	var err error
	switch comp {
	case "":
		err = d.putWhole(w, r, u)
	case "block":
		err = d.putBlock(w, r, u, query.Get("blockid"))
	case "blocklist":
		err = d.putBlockList(w, r, u)
	default:
		return failComp
	}
	if err != nil {
		return blobFailure(err)
	}
	h := w.Header()
	h.Set("ETag", `"`+eventlog.NewID()+`"`)
	h.Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	h.Set("x-ms-request-id", eventlog.NewID())
	h.Set("x-ms-version", tokenVersion)
	h.Set("x-ms-request-server-encrypted", "false")
	w.WriteHeader(http.StatusCreated)
	return nil
}

func blobFailure(err error) error {
	var known *failure
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, files.ErrDigest):
		return failBlobDigest
	case errors.Is(err, files.ErrNoBlock):
		return failBlockList
	case errors.Is(err, files.ErrTooLarge):
		return failBlobLarge
	}
	return within(failInternal, err)
}

func (d *Door) putWhole(w http.ResponseWriter, r *http.Request, u upload) error {
	if kind := r.Header.Get("x-ms-blob-type"); kind != "BlockBlob" {
		return failBlobType
	}
	digest, err := digestOf(r)
	if err != nil {
		return err
	}
	n, err := d.deps.Files.Put(r.Context(), u.name, contentType(r), digest, bodyOf(w, r, u))
	d.metrics.uploaded.Add(float64(n))
	return err
}

// contentType is the file's, not the request's.
func contentType(r *http.Request) string {
	if kind := r.Header.Get("x-ms-blob-content-type"); kind != "" {
		return kind
	}
	return "application/octet-stream"
}

func (d *Door) putBlock(w http.ResponseWriter, r *http.Request, u upload, encoded string) error {
	id, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(id) == 0 || len(id) > maxBlockIDBytes {
		return failBlockID
	}
	digest, err := digestOf(r)
	if err != nil {
		return err
	}
	stage := d.uploads.stage(u)
	if stage == nil {
		return failBusy
	}
	room, err := stage.take(r.Context(), d.deps.Files, u.id, r.ContentLength, d.cfg.MaxFileBytes)
	if err != nil {
		return err
	}
	if !room {
		return failBlobLarge
	}
	n, err := d.deps.Files.PutBlock(r.Context(), u.id, string(id), digest, bodyOf(w, r, u))
	d.metrics.uploaded.Add(float64(n))
	if err != nil {
		stage.giveBack(r.ContentLength)
	}
	return err
}

// blockList is the body of Put Block List.
type blockList struct {
	XMLName xml.Name `xml:"BlockList"`
	Entries []struct {
		XMLName xml.Name
		ID      string `xml:",chardata"`
	} `xml:",any"`
}

func (d *Door) putBlockList(w http.ResponseWriter, r *http.Request, u upload) error {
	body, err := io.ReadAll(bodyOf(w, r, u))
	if err != nil {
		return err
	}
	ids, err := parseBlockList(body)
	if err != nil {
		return failBlockList
	}
	_, err = d.deps.Files.Commit(r.Context(), u.id, ids, u.name, contentType(r), d.cfg.MaxFileBytes)
	return err
}

var errBlockList = errors.New("not a list of blocks")

func parseBlockList(body []byte) ([]string, error) {
	var list blockList
	if err := xml.Unmarshal(body, &list); err != nil || //nolint:gosec // bounded, into strings
		len(list.Entries) > maxBlocks {
		return nil, errBlockList
	}
	ids := make([]string, 0, len(list.Entries))
	for _, e := range list.Entries {
		id, err := base64.StdEncoding.DecodeString(e.ID)
		if err != nil || len(id) == 0 || len(id) > maxBlockIDBytes {
			return nil, errBlockList
		}
		ids = append(ids, string(id))
	}
	return ids, nil
}

// digestOf is the MD5 that the request announces; nil for none.
func digestOf(r *http.Request) ([]byte, error) {
	announced := r.Header.Get("Content-MD5")
	if announced == "" {
		return nil, nil
	}
	digest, err := base64.StdEncoding.DecodeString(announced)
	if err != nil || len(digest) != md5.Size {
		return nil, failBlobDigest
	}
	return digest, nil
}

// bodyOf is the request's body, as long as announced, for as long as something
// comes.
func bodyOf(w http.ResponseWriter, r *http.Request, u upload) io.Reader {
	return &movingBody{from: http.MaxBytesReader(w, r.Body, r.ContentLength), left: r.ContentLength, until: u.expires, control: http.NewResponseController(w)}
}

type movingBody struct {
	from    io.Reader
	left    int64
	until   time.Time
	control *http.ResponseController
}

// Read gives the device time to send on, until its address is over. A body that ends before its announced
// length is an error, so that no half of a file is taken for the whole.
func (b *movingBody) Read(p []byte) (int, error) {
	now := time.Now()
	deadline := now.Add(stallTimeout)
	if b.until.Before(deadline) {
		deadline = b.until
	}
	if err := errors.Join(b.control.SetReadDeadline(deadline), b.control.SetWriteDeadline(now.Add(answerTimeout))); err != nil {
		return 0, err
	}
	n, err := b.from.Read(p)
	b.left -= int64(n)
	if errors.Is(err, io.EOF) && b.left > 0 {
		return n, errors.New("the body ends after " + strconv.FormatInt(b.left, 10) + " bytes too few")
	}
	return n, err
}
