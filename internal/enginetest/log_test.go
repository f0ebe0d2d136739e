package enginetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestEachLogGivesAWorkingBroker(t *testing.T) {
	prefixes := map[string]bool{}
	EachLog(t, func(t *testing.T, log Log) {
		require.False(t, prefixes[log.TopicPrefix])
		prefixes[log.TopicPrefix] = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		client, err := kgo.NewClient(kgo.SeedBrokers(log.Addr), kgo.MetadataMinAge(10*time.Millisecond))
		require.NoError(t, err)
		defer client.Close()
		admin, topic := kadm.NewClient(client), log.TopicPrefix+"records"
		_, err = admin.CreateTopic(ctx, 1, -1, nil, topic)
		require.NoError(t, err)
		require.NoError(t, client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("hello")}).FirstErr())

		deleteTopics(t, admin, log.TopicPrefix)
		require.Eventually(t, func() bool {
			topics, err := admin.ListTopics(ctx)
			require.NoError(t, err)
			for _, name := range topics.Names() {
				if strings.HasPrefix(name, log.TopicPrefix) {
					return false
				}
			}
			return true
		}, time.Minute, 10*time.Millisecond)
	})
	require.NotEmpty(t, prefixes)
}
