// Package files keeps the files that devices upload, and those of device
// operations: in a directory, in an S3 bucket or in an Azure Blob container.
//
// In go names, checked, and bytes as a stream; a file is there whole or not at
// all. Files in pieces ("blocks") are staged in the store itself, so that any
// node can put together what others took in.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // the targets of Open
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // as above
	"gocloud.dev/gcerrors"
)

// Errors of the store that a caller decides on.
var (
	ErrNotFound = errors.New("there is no such file")
	ErrDigest   = errors.New("the bytes do not have the digest that was announced")
)

// Store is safe for concurrent use. Close it.
type Store struct {
	bucket *blob.Bucket
	signs  bool // uploads can go straight to the store
}

// Open opens the target of a URL, `file:///directory`, `s3://bucket?region=…` or
// `azblob://container`, with the credentials of the environment as the SDKs of
// AWS and Azure read them. A directory is made when it is missing.
func Open(ctx context.Context, target string) (*Store, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, fmt.Errorf("file store: the target is not a URL: %w", errors.Unwrap(err))
	}
	switch u.Scheme {
	case "file":
		return openDirectory(filepath.FromSlash(u.Path))
	case "s3", "azblob":
		bucket, err := blob.OpenBucket(ctx, target)
		if err != nil {
			return nil, fmt.Errorf("file store %s: %w", u.Scheme, err)
		}
		return &Store{bucket: bucket, signs: u.Scheme == "azblob"}, nil
	}
	return nil, fmt.Errorf("file store: %q is no target: write file:///directory, s3://bucket or azblob://container", u.Scheme)
}

func openDirectory(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make file store: %w", err)
	}
	bucket, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, DirFileMode: 0o700})
	if err != nil {
		return nil, fmt.Errorf("file store %s: %w", dir, err)
	}
	return &Store{bucket: bucket}, nil
}

// Close ends the store.
func (s *Store) Close() error {
	if err := s.bucket.Close(); err != nil {
		return fmt.Errorf("close file store: %w", err)
	}
	return nil
}

// Put writes a file; it replaces one of the same name once all bytes are there.
// The digest (MD5) is checked unless it is nil.
func (s *Store) Put(ctx context.Context, name Name, contentType string, digest []byte, from io.Reader) (int64, error) {
	return s.write(ctx, name.key(), contentType, digest, from)
}

func (s *Store) write(ctx context.Context, key, contentType string, digest []byte, from io.Reader) (n int64, err error) {
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	w, err := s.bucket.NewWriter(ctx, key, &blob.WriterOptions{ContentType: contentType, ContentMD5: digest, DisableContentTypeDetection: true})
	if err != nil {
		return 0, fmt.Errorf("write file: %w", err)
	}
	if n, err = io.Copy(w, from); err != nil {
		abandon() // before Close, which would keep what is there
		_ = w.Close()
		return n, fmt.Errorf("write file: %w", err)
	}
	switch err := w.Close(); {
	case gcerrors.Code(err) == gcerrors.FailedPrecondition && digest != nil:
		return n, ErrDigest
	case err != nil:
		return n, fmt.Errorf("write file: %w", err)
	}
	return n, nil
}

// Size is how many bytes the file has; ErrNotFound when there is none.
func (s *Store) Size(ctx context.Context, name Name) (int64, error) {
	attributes, err := s.bucket.Attributes(ctx, name.key())
	if gcerrors.Code(err) == gcerrors.NotFound {
		return 0, ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("size of file: %w", err)
	}
	return attributes.Size, nil
}

// Open reads the file. Close what it returns.
func (s *Store) Open(ctx context.Context, name Name) (io.ReadCloser, error) {
	r, err := s.bucket.NewReader(ctx, name.key(), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read file: %w", err)
	}
	return r, nil
}

// Delete removes the file; one that is not there is removed already.
func (s *Store) Delete(ctx context.Context, name Name) error {
	if err := s.bucket.Delete(ctx, name.key()); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("delete file: %w", err)
	}
	return nil
}

// SignedURL is where a device may write the file itself, by Azure's Put Blob,
// until it expires. It is not ok where the store cannot give such an address.
func (s *Store) SignedURL(ctx context.Context, name Name, life time.Duration) (_ *url.URL, ok bool, err error) {
	if !s.signs {
		return nil, false, nil
	}
	signed, err := s.bucket.SignedURL(ctx, name.key(), &blob.SignedURLOptions{Method: "PUT", Expiry: life})
	if err != nil {
		if gcerrors.Code(err) == gcerrors.Unimplemented {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("sign upload: set AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY: %w", err)
	}
	u, err := url.Parse(signed)
	if err != nil || !strings.HasPrefix(u.Scheme, "http") {
		return nil, false, errors.New("sign upload: the store gave no address")
	}
	return u, true, nil
}
