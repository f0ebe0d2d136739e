package chdb

import (
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// nativeChunks turns Native blocks of revision 0, which is what libchdb makes,
// into blocks of the revision a client asked for with client_protocol_version.
// The two differ by a block header and a flag per column, but columns carry no
// length, so each block is decoded and encoded again.
type nativeChunks struct {
	source   *chunkReader
	reader   *chproto.Reader
	buffer   chproto.Buffer
	revision uint64
}

func newNativeChunks(source chunks, revision uint64) *nativeChunks {
	from := &chunkReader{source: source}
	return &nativeChunks{source: from, reader: chproto.NewReader(from), revision: revision}
}

func (n *nativeChunks) next() ([]byte, error) {
	block := proto.Block{ServerContext: &column.ServerContext{}}
	if err := block.Decode(n.reader, 0); err != nil {
		switch {
		case n.source.err != nil && !errors.Is(n.source.err, io.EOF):
			return nil, n.source.err
		case errors.Is(err, io.EOF):
			return nil, io.EOF
		}
		return nil, n.unsupported(err)
	}
	n.buffer.Reset()
	if err := block.Encode(&n.buffer, n.revision); err != nil {
		return nil, n.unsupported(err)
	}
	return n.buffer.Buf, nil
}

func (n *nativeChunks) unsupported(err error) error {
	return &Error{Code: codeNotImplemented, Name: "NOT_IMPLEMENTED",
		Message: fmt.Sprintf("the result has a column that the embedded ClickHouse cannot send as Native (%v); cast it, e.g. to String", err)}
}

// chunkReader reads a result as one stream of bytes and keeps the error that
// ended it.
type chunkReader struct {
	source chunks
	left   []byte
	err    error
}

func (c *chunkReader) Read(p []byte) (int, error) {
	for len(c.left) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.left, c.err = c.source.next()
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}
