package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// leaveTimeout bounds saying goodbye to a consumer group.
const leaveTimeout = 2 * time.Second

// LeaveGroup takes a node that stops in order out of the consumer group, so that
// the others have its partitions at once. A node that is killed keeps its place
// instead, for as long as the session timeout: it is back before the others would
// have begun. Its members join with kgo.InstanceID(node).
func (l *Log) LeaveGroup(ctx context.Context, name, node string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	left, err := l.admin.LeaveGroup(ctx, kadm.LeaveGroup(l.Group(name)).InstanceIDs(node))
	if err == nil {
		err = left.Error()
	}
	if err != nil {
		return fmt.Errorf("leave consumer group %s: %w", l.Group(name), err)
	}
	return nil
}
