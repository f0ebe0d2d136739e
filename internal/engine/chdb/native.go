package chdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// nativeChunks turns Native blocks of revision 0, which is what libchdb makes,
// into blocks of the revision a client asked for with client_protocol_version.
// The two differ by a header per block and a flag per column (ClickHouse's
// NativeWriter); the columns' bytes are the same. But columns carry no length,
// so each is decoded to find its end, and its bytes are then copied.
//
// A chunk of libchdb always holds whole blocks.
type nativeChunks struct {
	source   chunks
	revision uint64
	// block reads chunk, the part of a result that is being turned.
	chunk  []byte
	unread *bytes.Reader
	buffer *bufio.Reader
	reader *chproto.Reader
	out    []byte
}

const (
	// maxNativeColumns and maxNativeRows bound what a block's header may
	// claim.
	maxNativeColumns = 100_000
	maxNativeRows    = 1 << 30
)

// blockInfo is is_overflows=0, bucket_num=-1 as NativeWriter writes it for any
// revision above 0: field 1, field 2, end.
var blockInfo = []byte{1, 0, 2, 0xff, 0xff, 0xff, 0xff, 0}

func newNativeChunks(source chunks, revision uint64) *nativeChunks {
	unread := bytes.NewReader(nil)
	// chproto's reader uses a bufio.Reader that is large enough as it is, so
	// that consumed can look into it.
	buffer := bufio.NewReaderSize(unread, 128<<10)
	return &nativeChunks{source: source, revision: revision, unread: unread, buffer: buffer, reader: chproto.NewReader(buffer)}
}

func (n *nativeChunks) next() (block []byte, err error) {
	if n.consumed() == len(n.chunk) {
		if n.chunk, err = n.source.next(); err != nil {
			return nil, err
		}
		n.unread.Reset(n.chunk)
		n.buffer.Reset(n.unread)
	}
	// The decoders of foreign types have been seen to panic.
	defer func() {
		if reason := recover(); reason != nil {
			block, err = nil, n.unsupported(fmt.Errorf("%v", reason))
		}
	}()
	if err := n.turn(); err != nil {
		return nil, n.unsupported(err)
	}
	return n.out, nil
}

// turn makes out from the next block of the chunk.
func (n *nativeChunks) turn() error {
	n.out = n.out[:0]
	if n.revision > 0 {
		n.out = append(n.out, blockInfo...)
	}
	columns, err := n.reader.UVarInt()
	if err != nil {
		return err
	}
	rows, err := n.reader.UVarInt()
	if err != nil {
		return err
	}
	if columns > maxNativeColumns || rows > maxNativeRows {
		return fmt.Errorf("a block of %d columns and %d rows", columns, rows)
	}
	n.out = binary.AppendUvarint(n.out, columns)
	n.out = binary.AppendUvarint(n.out, rows)
	for range columns {
		if err := n.turnColumn(int(rows)); err != nil {
			return err
		}
	}
	return nil
}

func (n *nativeChunks) turnColumn(rows int) error {
	from := n.consumed()
	name, err := n.reader.Str()
	if err != nil {
		return err
	}
	kind, err := n.reader.Str()
	if err != nil {
		return err
	}
	n.out = append(n.out, n.chunk[from:n.consumed()]...)
	if n.revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
		n.out = append(n.out, 0)
	}
	if rows == 0 {
		return nil
	}
	from = n.consumed()
	if err := n.skip(name, column.Type(kind), rows); err != nil {
		return fmt.Errorf("column %s %s: %w", name, kind, err)
	}
	n.out = append(n.out, n.chunk[from:n.consumed()]...)
	return nil
}

// skip reads over a column.
func (n *nativeChunks) skip(name string, kind column.Type, rows int) error {
	decoder, err := kind.Column(name, &column.ServerContext{})
	if err != nil {
		return err
	}
	if prefixed, ok := decoder.(column.CustomSerialization); ok {
		if err := prefixed.ReadStatePrefix(n.reader); err != nil {
			return err
		}
	}
	return decoder.Decode(n.reader, rows)
}

// consumed is how many bytes of the chunk have been decoded.
func (n *nativeChunks) consumed() int {
	return len(n.chunk) - n.unread.Len() - n.buffer.Buffered()
}

func (n *nativeChunks) unsupported(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &Error{Code: codeNotImplemented, Name: "NOT_IMPLEMENTED",
		Message: fmt.Sprintf("the result has a column that the embedded ClickHouse cannot send as Native (%v); cast it, e.g. to String", err)}
}
