package files

import (
	"context"
	"crypto/md5"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"
)

func open(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(t.Context(), "file://"+dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, dir
}

func name(t *testing.T, file string) Name {
	t.Helper()
	n, err := ParseName("default", "d", file)
	require.NoError(t, err)
	return n
}

func read(t *testing.T, s *Store, n Name) string {
	t.Helper()
	r, err := s.Open(t.Context(), n)
	require.NoError(t, err)
	defer r.Close()
	content, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(content)
}

// brokenReader ends in the middle.
type brokenReader struct{ r io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestAFileIsWholeOrNotThere(t *testing.T) {
	s, dir := open(t)
	n := name(t, "logs/today.txt")
	_, err := s.Put(t.Context(), n, "text/plain", nil, brokenReader{strings.NewReader("half")})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = s.Size(t.Context(), n)
	require.ErrorIs(t, err, ErrNotFound)
	wrong := md5.Sum([]byte("other"))
	_, err = s.Put(t.Context(), n, "text/plain", wrong[:], strings.NewReader("whole"))
	require.ErrorIs(t, err, ErrDigest)
	right := md5.Sum([]byte("whole"))
	size, err := s.Put(t.Context(), n, "text/plain", right[:], strings.NewReader("whole"))
	require.NoError(t, err)
	require.EqualValues(t, 5, size)
	require.Equal(t, "whole", read(t, s, n))
	_, err = os.Stat(filepath.Join(dir, "default", "d", "logs", "today.txt"))
	require.NoError(t, err, "a person finds it by its name")
	_, err = s.Put(t.Context(), n, "text/plain", nil, brokenReader{strings.NewReader("half")})
	require.Error(t, err)
	require.Equal(t, "whole", read(t, s, n), "a failed upload leaves the file as it was")
}

func TestBlocks(t *testing.T) {
	s, dir := open(t)
	upload, other := Upload{1}, Upload{2}
	for id, body := range map[string]string{"b": "two", "a": "one "} {
		_, err := s.PutBlock(t.Context(), upload, id, nil, strings.NewReader(body))
		require.NoError(t, err)
	}
	_, err := s.PutBlock(t.Context(), other, "a", nil, strings.NewReader("x"))
	require.NoError(t, err)
	count, bytes, err := s.Blocks(t.Context(), upload)
	require.NoError(t, err)
	require.Equal(t, 2, count)
	require.EqualValues(t, 7, bytes)
	_, err = s.Commit(t.Context(), upload, []string{"a", "c"}, name(t, "f"), "", 100)
	require.ErrorIs(t, err, ErrNoBlock)
	_, err = s.Commit(t.Context(), upload, []string{"a", "b"}, name(t, "f"), "", 6)
	require.ErrorIs(t, err, ErrTooLarge)
	_, err = s.Size(t.Context(), name(t, "f"))
	require.ErrorIs(t, err, ErrNotFound)
	n, err := s.Commit(t.Context(), upload, []string{"a", "b"}, name(t, "f"), "", 7)
	require.NoError(t, err)
	require.EqualValues(t, 7, n)
	require.Equal(t, "one two", read(t, s, name(t, "f")))

	require.NoError(t, s.Sweep(t.Context(), time.Now().Add(-time.Hour)))
	count, _, err = s.Blocks(t.Context(), other)
	require.NoError(t, err)
	require.Equal(t, 1, count, "what is young stays")
	require.NoError(t, s.Sweep(t.Context(), time.Now().Add(time.Hour)))
	left, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "default", "d", "f"), filepath.Join(dir, "default", "d", "f.attrs")}, left)
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "a/b/c.txt", "späte Datei", "..a", "a:b", strings.Repeat("x", 240)} {
		n, err := ParseBlob("default", "d/"+good)
		require.NoError(t, err, good)
		require.Equal(t, "d/"+good, n.Blob())
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "../a", "a/..", "...", "a\\b", "a\nb", "\xff", "a.attrs", strings.Repeat("x", 241), strings.Repeat("a/", 600) + "a"} {
		_, err := ParseName("default", "d", bad)
		require.ErrorIs(t, err, ErrName, "%q", bad)
	}
	_, err := ParseName("default", "..", "a")
	require.ErrorIs(t, err, ErrName)
	_, err = ParseBlob("default", "d")
	require.ErrorIs(t, err, ErrName)
}

// TestOperationsFilesAreNoDevices keeps devices from writing where operations read.
func TestOperationsFilesAreNoDevices(t *testing.T) {
	s, dir := open(t)
	n, err := OfOperation("default", "0190-ab", "input")
	require.NoError(t, err)
	_, err = s.Put(t.Context(), n, "", nil, strings.NewReader("rows"))
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, ".operations", "default", "0190-ab", "input"))
	_, err = ParseName(".operations/default", "0190-ab", "input")
	require.ErrorIs(t, err, ErrName)
	require.NoError(t, s.Delete(t.Context(), n))
	require.NoError(t, s.Delete(t.Context(), n), "once more does no harm")
	_, err = s.Open(t.Context(), n)
	require.ErrorIs(t, err, ErrNotFound)
	for _, bad := range []string{"", ".", "..", "a/b", "a.attrs", "ä", strings.Repeat("x", 241)} {
		_, err := OfOperation("default", bad, "input")
		require.ErrorIs(t, err, ErrName, "%q", bad)
		_, err = OfOperation("default", "0190", bad)
		require.ErrorIs(t, err, ErrName, "%q", bad)
		_, err = OfOperation(bad, "0190", "input")
		require.ErrorIs(t, err, ErrName, "%q", bad)
	}
}

// FuzzName wants every accepted name to stay below its device's directory.
func FuzzName(f *testing.F) {
	f.Add("d", "a/b.txt")
	f.Add("..", "x")
	f.Add("d", "../../x")
	f.Fuzz(func(t *testing.T, device, file string) {
		n, err := ParseName("default", device, file)
		if err != nil {
			return
		}
		if clean := filepath.Join("default", device, file); clean != n.key() || !strings.HasPrefix(clean, filepath.Join("default", device)+"/") {
			t.Fatalf("%q is %q", n.key(), clean)
		}
	})
}

// TestAzureSignsUploads needs no network: the address is signed here.
func TestAzureSignsUploads(t *testing.T) {
	t.Setenv("AZURE_STORAGE_ACCOUNT", "fleet")
	t.Setenv("AZURE_STORAGE_KEY", "c2VjcmV0")
	s, err := Open(context.WithoutCancel(t.Context()), "azblob://uploads")
	require.NoError(t, err)
	defer s.Close()
	u, ok, err := s.SignedURL(t.Context(), name(t, "logs/a b.txt"), time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "fleet.blob.core.windows.net", u.Host)
	require.Equal(t, "/uploads/default/d/logs/a b.txt", u.Path)
	require.NotEmpty(t, u.Query().Get("sig"))
}

func TestTargets(t *testing.T) {
	for _, bad := range []string{"", "ftp://x", "/var/files", "\x7f"} {
		_, err := Open(t.Context(), bad)
		require.Error(t, err, bad)
	}
	s, _ := open(t)
	_, ok, err := s.SignedURL(t.Context(), name(t, "f"), time.Hour)
	require.NoError(t, err)
	require.False(t, ok, "a directory's files go through the door")
}

// TestS3 speaks S3 to a server of it.
func TestS3(t *testing.T) {
	backend := s3mem.New()
	require.NoError(t, backend.CreateBucket("uploads"))
	server := httptest.NewServer(gofakes3.New(backend).Server())
	defer server.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s, err := Open(t.Context(), "s3://uploads?region=eu-central-1&use_path_style=true&endpoint="+server.URL)
	require.NoError(t, err)
	defer s.Close()
	n, upload := name(t, "logs/a b.txt"), Upload{1}
	_, err = s.Put(t.Context(), n, "text/plain", nil, brokenReader{strings.NewReader("half")})
	require.Error(t, err)
	_, err = s.Size(t.Context(), n)
	require.ErrorIs(t, err, ErrNotFound)
	for id, body := range map[string]string{"b": "two", "a": "one "} {
		_, err := s.PutBlock(t.Context(), upload, id, nil, strings.NewReader(body))
		require.NoError(t, err)
	}
	_, err = s.Commit(t.Context(), upload, []string{"a", "c"}, n, "", 100)
	require.ErrorIs(t, err, ErrNoBlock)
	_, err = s.Commit(t.Context(), upload, []string{"a", "b"}, n, "text/plain", 100)
	require.NoError(t, err)
	require.Equal(t, "one two", read(t, s, n))
	count, _, err := s.Blocks(t.Context(), upload)
	require.NoError(t, err)
	require.Zero(t, count)
	_, ok, err := s.SignedURL(t.Context(), n, time.Hour)
	require.NoError(t, err)
	require.False(t, ok, "Azure's clients cannot write to S3 by themselves")
}
