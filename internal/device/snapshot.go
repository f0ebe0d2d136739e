package device

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// snapshotState is the number of the state in a DeviceSnapshot.
const snapshotState protowire.Number = 1

// AppendSnapshot appends a snapshot, encoded, of a state that is encoded already. The
// other fields are those of rest.
func AppendSnapshot(out, state []byte, rest *eventsv1.DeviceSnapshot) ([]byte, error) {
	out = protowire.AppendTag(out, snapshotState, protowire.BytesType)
	out = protowire.AppendBytes(out, state)
	from, n := len(out), rest.SizeVT()
	out = slices.Grow(out, n)[:from+n]
	if _, err := rest.MarshalToSizedBufferVT(out[from:]); err != nil {
		return nil, fmt.Errorf("encode outcomes: %w", err)
	}
	return out, nil
}

// EncodedState is the state that a snapshot has, as it is there. It aliases the
// snapshot. It is not decoded, so what is wrong inside it is not seen.
func EncodedState(snapshot []byte) ([]byte, error) {
	var state []byte
	for rest := snapshot; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		rest = rest[n:]
		if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
			return nil, protowire.ParseError(n)
		}
		if number == snapshotState && kind == protowire.BytesType {
			state, _ = protowire.ConsumeBytes(rest)
		}
		rest = rest[n:]
	}
	if state == nil {
		return nil, errors.New("it carries no state")
	}
	return state, nil
}

// DecodeState reads an encoded state. The result refers to the bytes, which must not
// change any more.
//
// It is not inlined, so that it does the same work for a caller that drops the result.
//
//go:noinline
func DecodeState(encoded []byte) (*eventsv1.DeviceState, error) {
	state := new(eventsv1.DeviceState)
	if err := DecodeStateTo(state, encoded); err != nil {
		return nil, err
	}
	return state, nil
}

// DecodeStateTo is DecodeState that writes over a state, which nobody may be reading,
// instead of into new memory.
func DecodeStateTo(state *eventsv1.DeviceState, encoded []byte) error {
	*state = eventsv1.DeviceState{}
	if err := state.UnmarshalVTUnsafe(encoded); err != nil {
		return fmt.Errorf("decode state: %w", err)
	}
	return nil
}
