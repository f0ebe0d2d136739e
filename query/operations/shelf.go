package operations

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/seal"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// The files of an operation. Its errors are in parts, one for each window of rows
// that has some, so that none is ever written twice.
const (
	inputFile  = "input"
	resultFile = "result"
	errorsFile = "errors"
)

func errorsPart(number uint32) string { return fmt.Sprintf("%s-%06d", errorsFile, number) }

// shelf keeps the files of operations in the file store, sealed.
type shelf struct {
	store  *files.Store
	sealer *seal.Sealer
}

func place(tenant, id, file string) string {
	return tenant + "/" + deviceoperation.KindName + "/" + id + "/" + file
}

// put writes a file, which is there whole or not at all.
func (s *shelf) put(ctx context.Context, tenant, id, file string, write func(io.Writer) error) error {
	name, err := files.OfOperation(tenant, id, file)
	if err != nil {
		return fmt.Errorf("file of device operation: %w", err)
	}
	read, sealed := io.Pipe()
	written := make(chan error, 1)
	go func() {
		w := s.sealer.Writer(place(tenant, id, file), sealed)
		err := write(w)
		if err == nil {
			err = w.Close()
		}
		_ = sealed.CloseWithError(err) // io.EOF to the store when nil
		written <- err
	}()
	_, err = s.store.Put(ctx, name, "application/octet-stream", nil, read)
	_ = read.CloseWithError(io.ErrClosedPipe) // ends the goroutine, whatever happened
	if failed := <-written; failed != nil && !errors.Is(failed, io.ErrClosedPipe) {
		return failed // the store only repeats it
	}
	return err
}

// open reads a file; files.ErrNotFound when there is none. Close what it returns.
func (s *shelf) open(ctx context.Context, tenant, id, file string) (io.ReadCloser, error) {
	name, err := files.OfOperation(tenant, id, file)
	if err != nil {
		return nil, fmt.Errorf("file of device operation: %w", err)
	}
	sealed, err := s.store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{s.sealer.Reader(place(tenant, id, file), sealed), sealed}, nil
}

func (s *shelf) copyTo(ctx context.Context, to io.Writer, tenant, id, file string) error {
	from, err := s.open(ctx, tenant, id, file)
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := io.Copy(to, from); err != nil {
		return fmt.Errorf("read file of device operation: %w", err)
	}
	return nil
}

// remove deletes one file of an operation.
func (s *shelf) remove(ctx context.Context, tenant, id, file string) error {
	name, err := files.OfOperation(tenant, id, file)
	if err != nil {
		return fmt.Errorf("file of device operation: %w", err)
	}
	return s.store.Delete(ctx, name)
}

// clear deletes all files of an operation, a part of the errors that was written
// but never counted among them.
func (s *shelf) clear(ctx context.Context, tenant, id string, o *eventsv1.DeviceOperation) error {
	errs := []error{s.remove(ctx, tenant, id, inputFile), s.remove(ctx, tenant, id, resultFile)}
	for part := range o.GetErrorParts() + 1 {
		errs = append(errs, s.remove(ctx, tenant, id, errorsPart(part)))
	}
	return errors.Join(errs...)
}
