package https

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// begin asks for an address to put a file to.
func (s *site) begin(id, name string) (destination, answer) {
	s.t.Helper()
	body, err := json.Marshal(map[string]string{"blobName": name})
	require.NoError(s.t, err)
	a := s.call(id, http.MethodPost, "/devices/"+id+"/files?api-version=2021-04-12", string(body))
	var to destination
	if a.status == http.StatusOK {
		require.NoError(s.t, json.Unmarshal([]byte(a.body), &to))
	}
	return to, a
}

// put does what a client of Azure Blob Storage does.
func (s *site) put(to destination, more, body string, header ...string) answer {
	s.t.Helper()
	require.Equal(s.t, s.addr, to.HostName)
	path := (&url.URL{Path: "/" + to.ContainerName + "/" + to.BlobName}).EscapedPath()
	return s.call("", http.MethodPut, path+to.SASToken+more, body, header...)
}

func (s *site) finish(id string, r result) answer {
	s.t.Helper()
	body, err := json.Marshal(r)
	require.NoError(s.t, err)
	return s.call(id, http.MethodPost, "/devices/"+id+"/files/notifications?api-version=2021-04-12", string(body))
}

func (s *site) stored(id, name string) string {
	s.t.Helper()
	n, err := files.ParseName(access.DefaultTenant, id, name)
	require.NoError(s.t, err)
	r, err := s.files.Open(s.t.Context(), n)
	require.NoError(s.t, err)
	defer r.Close()
	content, err := io.ReadAll(r)
	require.NoError(s.t, err)
	return string(content)
}

func (s *site) uploaded() []*eventsv1.FileUploaded {
	var all []*eventsv1.FileUploaded
	ends, err := s.log.Admin().ListEndOffsets(s.t.Context(), s.log.Name(eventlog.Devices))
	require.NoError(s.t, err)
	n := int64(0)
	for _, partition := range ends[s.log.Name(eventlog.Devices)] {
		n += partition.Offset
	}
	for _, r := range s.records(eventlog.Devices, int(n)) {
		ev := new(eventsv1.DeviceEvent)
		require.NoError(s.t, proto.Unmarshal(r.Value, ev))
		if u := ev.GetFileUploaded(); u != nil {
			all = append(all, u)
		}
	}
	return all
}

const blockBlob = "x-ms-blob-type"

func TestUploadAFile(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("camera-1", true)
	to, a := s.begin("camera-1", "logs/a picture.jpg")
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.Equal(t, "camera-1/logs/a picture.jpg", to.BlobName)
	require.NotEmpty(t, to.ContainerName)
	require.True(t, strings.HasPrefix(to.SASToken, "?"), to.SASToken)
	require.Equal(t, http.StatusBadRequest, s.finish("camera-1", result{CorrelationID: to.CorrelationID, IsSuccess: true}).status, "a file that is not there was not uploaded")

	digest := md5.Sum([]byte("other bytes"))
	a = s.put(to, "", "the bytes", blockBlob, "BlockBlob", "Content-MD5", base64.StdEncoding.EncodeToString(digest[:]))
	require.Equal(t, http.StatusBadRequest, a.status, a.body)
	require.Equal(t, "Md5Mismatch", a.header.Get("x-ms-error-code"))
	require.Contains(t, a.body, "<Error><Code>Md5Mismatch</Code>")
	a = s.put(to, "", "the bytes", blockBlob, "BlockBlob", "x-ms-blob-content-type", "image/jpeg")
	require.Equal(t, http.StatusCreated, a.status, a.body)
	require.Equal(t, "the bytes", s.stored("camera-1", "logs/a picture.jpg"))

	a = s.finish("camera-1", result{CorrelationID: to.CorrelationID, IsSuccess: true, StatusCode: 201, StatusDescription: "done"})
	require.Equal(t, http.StatusNoContent, a.status, a.body)
	require.Equal(t, http.StatusNoContent, s.finish("camera-1", result{CorrelationID: to.CorrelationID}).status, "said twice, noted once")
	events := s.uploaded()
	require.Len(t, events, 1)
	require.Equal(t, "camera-1/logs/a picture.jpg", events[0].GetBlob())
	require.EqualValues(t, 9, events[0].GetBytes())
	require.EqualValues(t, 201, events[0].GetStatus())
	require.True(t, events[0].GetSuccess())
	require.Equal(t, "done", events[0].GetDescription())
	require.Equal(t, to.CorrelationID, events[0].GetCorrelation())
}

func TestUploadInBlocks(t *testing.T) {
	s := newSite(t, Config{MaxFileBytes: 20}, nil)
	s.register("d", true)
	to, _ := s.begin("d", "big.bin")
	block := func(id, body string) answer {
		return s.put(to, "&comp=block&blockid="+url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(id))), body)
	}
	list := func(ids ...string) answer {
		body := `<?xml version="1.0" encoding="utf-8"?><BlockList>`
		for _, id := range ids {
			body += "<Latest>" + base64.StdEncoding.EncodeToString([]byte(id)) + "</Latest>"
		}
		return s.put(to, "&comp=blocklist", body+"</BlockList>")
	}
	require.Equal(t, http.StatusCreated, block("b", "world").status)
	require.Equal(t, http.StatusCreated, block("a", "hello ").status)
	a := list("a", "missing")
	require.Equal(t, "InvalidBlockList", a.header.Get("x-ms-error-code"))
	a = block("c", strings.Repeat("x", 10))
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status, "blocks are bounded together")
	a = list("a", "a", "a", "a")
	require.Equal(t, http.StatusRequestEntityTooLarge, a.status, "and what is made of them")
	require.Equal(t, http.StatusBadRequest, s.put(to, "&comp=block&blockid=", "x").status)
	require.Equal(t, http.StatusBadRequest, s.put(to, "&comp=lease", "x").status)
	a = list("a", "b")
	require.Equal(t, http.StatusCreated, a.status, a.body)
	require.Equal(t, "hello world", s.stored("d", "big.bin"))
	u, err := s.door.signer.parseCorrelation(to.CorrelationID, caller{tenant: access.DefaultTenant, device: "d"}, time.Now())
	require.NoError(t, err)
	count, _, err := s.files.Blocks(t.Context(), u.id)
	require.NoError(t, err)
	require.Zero(t, count, "staged blocks are cleared away")
}

func TestUploadRefusals(t *testing.T) {
	s := newSite(t, Config{MaxFileBytes: 64}, nil)
	s.register("d", true)
	s.register("other", true)
	for _, name := range []string{"", "../x", "a/../b", "/etc/passwd", "a//b", "a\\b", "a\x00", ".", strings.Repeat("x", 2000)} {
		_, a := s.begin("d", name)
		require.Equal(t, http.StatusBadRequest, a.status, "%q", name)
		require.Equal(t, "ArgumentInvalid", a.failure(t))
	}
	to, _ := s.begin("d", "mine.txt")
	require.Equal(t, http.StatusBadRequest, s.put(to, "", "x").status, "only block blobs")
	a := s.put(to, "", strings.Repeat("x", 65), blockBlob, "BlockBlob")
	require.Equal(t, "RequestBodyTooLarge", a.header.Get("x-ms-error-code"))
	elsewhere := to
	elsewhere.BlobName = "other/mine.txt"
	require.Equal(t, http.StatusForbidden, s.put(elsewhere, "", "x", blockBlob, "BlockBlob").status)
	elsewhere = to
	elsewhere.SASToken = strings.Replace(to.SASToken, "se=2", "se=3", 1)
	require.Equal(t, http.StatusForbidden, s.put(elsewhere, "", "x", blockBlob, "BlockBlob").status)
	require.Equal(t, http.StatusForbidden, s.call("", http.MethodPut, "/default/d/mine.txt", "x", blockBlob, "BlockBlob").status)
	require.Equal(t, http.StatusBadRequest, s.finish("other", result{CorrelationID: to.CorrelationID}).status, "a device ends its own uploads only")
	require.Equal(t, http.StatusBadRequest, s.finish("d", result{CorrelationID: "x"}).status)
	require.Equal(t, http.StatusBadRequest, s.call("d", http.MethodPost, "/devices/d/files", "no json").status)

	now := time.Now()
	over := upload{expires: now.Add(-time.Second).Truncate(time.Second)}
	over.name, _ = files.ParseName("default", "d", "late.txt")
	query, err := url.ParseQuery(strings.TrimPrefix(s.door.signer.token(over), "?"))
	require.NoError(t, err)
	_, err = s.door.signer.parseToken(query, "default", "d/late.txt", now)
	require.ErrorIs(t, err, errSignature)
	_, err = s.door.signer.parseToken(query, "default", "d/late.txt", now.Add(-time.Hour))
	require.NoError(t, err)
}

func TestTenUploadsAtOneTime(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	var first destination
	for i := range maxDeviceUploads {
		to, a := s.begin("d", fmt.Sprintf("%d.txt", i))
		require.Equal(t, http.StatusOK, a.status)
		if i == 0 {
			first = to
		}
	}
	_, a := s.begin("d", "one more.txt")
	require.Equal(t, http.StatusForbidden, a.status)
	require.Equal(t, "DeviceMaximumActiveFileUploadLimitExceeded", a.failure(t))
	require.Contains(t, a.body, "403006")
	require.Equal(t, http.StatusNoContent, s.finish("d", result{CorrelationID: first.CorrelationID, StatusDescription: "gave up"}).status)
	_, a = s.begin("d", "one more.txt")
	require.Equal(t, http.StatusOK, a.status)
	events := s.uploaded()
	require.Len(t, events, 1)
	require.False(t, events[0].GetSuccess())

	s.door.uploads.sweep(time.Now().Add(2 * uploadLife))
	require.Zero(t, s.door.uploads.total)
	require.Empty(t, s.door.uploads.byDevice)
}

// TestHalfAFileIsNone ends an upload in its middle.
func TestHalfAFileIsNone(t *testing.T) {
	s := newSite(t, Config{}, nil)
	s.register("d", true)
	to, _ := s.begin("d", "half.txt")
	conn, err := s.dialTLS()
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "PUT /%s/%s%s HTTP/1.1\r\nHost: %s\r\nx-ms-blob-type: BlockBlob\r\nContent-Length: 100000\r\n\r\n%s",
		to.ContainerName, to.BlobName, to.SASToken, to.HostName, bytes.Repeat([]byte("x"), 50000))
	require.NoError(t, err)
	require.NoError(t, conn.CloseWrite())
	_, err = io.ReadAll(conn) // until the door is done with it
	require.NoError(t, err)
	name, err := files.ParseName(access.DefaultTenant, "d", "half.txt")
	require.NoError(t, err)
	_, err = s.files.Size(context.WithoutCancel(t.Context()), name)
	require.ErrorIs(t, err, files.ErrNotFound)
}
