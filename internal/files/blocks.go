package files

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// staging is where blocks wait. No tenant has a name like this.
const staging = ".blocks/"

// ErrNoBlock is returned for a list with a block that was never put.
var ErrNoBlock = errors.New("the list names a block that is not here: put it first")

// Upload names the blocks of one upload; it is unguessable.
type Upload [16]byte

func (u Upload) prefix() string { return staging + hex.EncodeToString(u[:]) + "/" }

func (u Upload) block(id string) string { return u.prefix() + hex.EncodeToString([]byte(id)) }

// PutBlock stages a block of an upload; one with the same id is replaced.
func (s *Store) PutBlock(ctx context.Context, upload Upload, id string, digest []byte, from io.Reader) (int64, error) {
	return s.write(ctx, upload.block(id), "", digest, from)
}

// Blocks is how many blocks of an upload are staged, and how many bytes they have.
func (s *Store) Blocks(ctx context.Context, upload Upload) (count int, bytes int64, err error) {
	list := s.bucket.List(&blob.ListOptions{Prefix: upload.prefix()})
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return count, bytes, nil
		}
		if err != nil {
			return 0, 0, fmt.Errorf("list blocks: %w", err)
		}
		count, bytes = count+1, bytes+object.Size
	}
}

// Commit makes a file of staged blocks, in the order of the list, and then
// forgets all blocks of the upload. It fails when the file would have more than
// limit bytes.
func (s *Store) Commit(ctx context.Context, upload Upload, ids []string, name Name, contentType string, limit int64) (int64, error) {
	read, write := io.Pipe()
	concatenated := make(chan error, 1)
	go func() {
		err := s.concatenate(ctx, write, upload, ids)
		concatenated <- err
		_ = write.CloseWithError(err) // io.EOF to the reader when nil
	}()
	bounded := &boundedReader{from: read, left: limit}
	n, err := s.Put(ctx, name, contentType, nil, bounded)
	_ = read.CloseWithError(io.ErrClosedPipe) // ends the goroutine, whatever happened
	if failed := <-concatenated; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		err = failed
	}
	if err != nil {
		return n, err
	}
	return n, s.Discard(ctx, upload)
}

// ErrTooLarge is returned for a file beyond its limit.
var ErrTooLarge = errors.New("the file is larger than the limit")

type boundedReader struct {
	from io.Reader
	left int64
}

// Read fails once more than the limit has been read.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}

func (s *Store) concatenate(ctx context.Context, to io.Writer, upload Upload, ids []string) error {
	for _, id := range ids {
		if err := s.copyBlock(ctx, to, upload.block(id)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) copyBlock(ctx context.Context, to io.Writer, key string) error {
	from, err := s.bucket.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return ErrNoBlock
	}
	if err != nil {
		return fmt.Errorf("read block: %w", err)
	}
	defer from.Close()
	if _, err := io.Copy(to, from); err != nil {
		return fmt.Errorf("copy block: %w", err)
	}
	return nil
}

// Discard forgets the staged blocks of an upload.
func (s *Store) Discard(ctx context.Context, upload Upload) error {
	return s.discard(ctx, upload.prefix(), time.Time{})
}

// Sweep forgets blocks that were staged before a time: their uploads were given
// up.
func (s *Store) Sweep(ctx context.Context, before time.Time) error {
	return s.discard(ctx, staging, before)
}

func (s *Store) discard(ctx context.Context, prefix string, before time.Time) error {
	list := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list blocks: %w", err)
		}
		if !before.IsZero() && object.ModTime.After(before) {
			continue
		}
		if err := s.bucket.Delete(ctx, object.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return fmt.Errorf("discard block: %w", err)
		}
	}
}
