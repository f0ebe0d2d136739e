package mqtt

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// operation is what a device asks for, or answers, by publishing to `$iothub/…`
// (FEATURES.md 3.2).
type operation struct {
	kind   operationKind
	rid    string // as sent: it goes back the same
	status int32  // of a method's answer
}

type operationKind int

const (
	twinGet operationKind = iota + 1
	twinPatch
	methodAnswer
)

const (
	operationPrefix = "$iothub/"
	// maxRequestID bounds what is echoed.
	maxRequestID = 256
)

// parseOperation reads the topic of an operation.
func parseOperation(topic string) (operation, error) {
	path, query, _ := strings.Cut(topic, "?")
	rid, ok := requestID(query)
	if !ok {
		return operation{}, endForeignTopic
	}
	path = strings.TrimSuffix(path, "/")
	switch path {
	case "$iothub/twin/GET":
		return operation{kind: twinGet, rid: rid}, nil
	case "$iothub/twin/PATCH/properties/reported":
		return operation{kind: twinPatch, rid: rid}, nil
	}
	if digits, ok := strings.CutPrefix(path, "$iothub/methods/res/"); ok {
		status, err := strconv.ParseInt(digits, 10, 32)
		if err != nil {
			return operation{}, because(endForeignTopic, err)
		}
		return operation{kind: methodAnswer, rid: rid, status: int32(status)}, nil
	}
	return operation{}, endForeignTopic
}

// requestID finds `$rid` in a topic's query.
func requestID(query string) (string, bool) {
	for pair := range strings.SplitSeq(query, "&") {
		key, rid, _ := strings.Cut(pair, "=")
		if key == "$rid" || key == "%24rid" {
			_, err := url.PathUnescape(rid)
			return rid, err == nil && rid != "" && len(rid) <= maxRequestID
		}
	}
	return "", false
}

// operate carries out what the device published to an operation's topic.
func (c *connection) operate(ctx context.Context, pk *packets.Packet) error {
	op, err := parseOperation(pk.TopicName)
	if err != nil {
		return err
	}
	op.rid = strings.Clone(op.rid) // the topic's bytes are the reader's
	switch op.kind {
	case twinGet:
		c.getTwin(op.rid)
	case twinPatch:
		c.patchReported(ctx, op.rid, pk.Payload, pk.PacketID)
		return nil
	case methodAnswer:
		c.answerCommand(ctx, op, pk.Payload)
	}
	if pk.PacketID != 0 {
		c.acknowledge(pk.PacketID)
	}
	return nil
}
