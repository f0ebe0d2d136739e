package projections_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/projections"
	"github.com/fleetlog/fleetlog/projections/schema"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// appendEvents appends the events to the topic, in order, a second apart.
func (s *site) appendEvents(topic eventlog.Topic, events ...proto.Message) {
	s.t.Helper()
	for _, ev := range events {
		s.appendEvent(topic, ev)
	}
	s.flush()
}

func (s *site) appendEvent(topic eventlog.Topic, ev proto.Message) {
	s.t.Helper()
	id, at, actor := fmt.Sprint("e", s.appended), timestamppb.New(s.began.Add(time.Duration(s.appended)*time.Second)), &eventsv1.Actor{Principal: "user:ada", RequestId: "r"}
	s.appended++
	var key string
	switch ev := ev.(type) {
	case *eventsv1.CatalogEvent:
		ev.Id, ev.Tenant, ev.Time, ev.Actor = id, "a", at, actor
		key = "a/" + ev.GetKind() + "/" + ev.GetResource()
	case *eventsv1.AlertEvent:
		ev.Id, ev.Tenant, ev.Time, ev.Actor = id, "a", at, actor
		key = "a/" + ev.GetDevice()
	case *eventsv1.JobEvent:
		ev.Id, ev.Tenant, ev.Time, ev.Actor = id, "a", at, actor
		key = "a/" + ev.GetJob()
	}
	value, err := proto.Marshal(ev)
	require.NoError(s.t, err)
	require.NoError(s.t, s.log.AppendSync(s.t.Context(), eventlog.CloudEvent(s.log.Name(topic), id, "/test", "t", at.AsTime(), eventlog.ContentTypeProtobuf, []byte(key), value)))
}

// TestEachEventIsOneRow: whatever fails.
func TestEachEventIsOneRow(t *testing.T) {
	for name, of := range map[string]struct {
		construct constructor
		topic     eventlog.Topic
		event     func(n int) proto.Message
	}{
		"catalog_events": {projections.NewCatalogEvents, eventlog.Catalog, func(n int) proto.Message {
			return &eventsv1.CatalogEvent{Kind: "deviceGroups", Resource: fmt.Sprint("g", n%7), Change: &eventsv1.CatalogEvent_DeviceGroup{DeviceGroup: &eventsv1.DeviceGroup{}}}
		}},
		"alert_events": {projections.NewAlertEvents, eventlog.Alerts, func(n int) proto.Message {
			return &eventsv1.AlertEvent{Device: fmt.Sprint("d", n%7), Alert: fmt.Sprint("a", n%3), Change: &eventsv1.AlertEvent_Repeated{Repeated: &eventsv1.AlertRepeated{}}}
		}},
		"job_events": {projections.NewJobEvents, eventlog.Jobs, func(n int) proto.Message {
			return &eventsv1.JobEvent{Job: fmt.Sprint("j", n%7), Step: fmt.Sprint("s", n), Change: &eventsv1.JobEvent_StepStarted{StepStarted: &eventsv1.JobStepStarted{}}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			eachSite(t, func(s *site) {
				s.throughFaults(of.construct, func(n int) {
					for range n {
						s.appendEvent(of.topic, of.event(s.appended))
					}
				})
				require.Eventually(t, func() bool { return s.number("SELECT uniqExact(id) FROM "+name) >= int64(s.appended) }, patience, 10*time.Millisecond)
				require.EqualValues(t, s.appended, s.number("SELECT count() FROM "+name), "none twice")
			})
		})
	}
}

// TestAuditSaysWhoWantedWhat: of people, on resources and devices, and no secret.
func TestAuditSaysWhoWantedWhat(t *testing.T) {
	eachSite(t, func(s *site) {
		const secret = "sealed-secret"
		group := &eventsv1.CatalogEvent_EnrollmentGroup{EnrollmentGroup: &eventsv1.EnrollmentGroup{
			DisplayName: secret, Attestation: &eventsv1.EnrollmentGroup_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{Primary: []byte(secret)}},
		}}
		s.appendEvents(eventlog.Catalog,
			&eventsv1.CatalogEvent{Kind: "enrollmentGroups", Resource: "g", Precondition: &eventsv1.Precondition{Exists: proto.Bool(false)}, Change: group},
			&eventsv1.CatalogEvent{Kind: "enrollmentGroups", Resource: "g", Precondition: &eventsv1.Precondition{Version: proto.Uint64(7)}, Change: group},
			&eventsv1.CatalogEvent{Kind: "enrollmentGroups", Resource: "g", Change: group},
			&eventsv1.CatalogEvent{Kind: "enrollmentGroups", Resource: "g", Change: &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}}},
		)
		f := &fleet{site: s}
		for i, principal := range []string{"user:ada", "device:d1", "gateway:n1"} {
			f.append(&eventsv1.DeviceEvent{
				Id: fmt.Sprint("x", i), Tenant: "a", Device: "d1", Time: timestamppb.New(s.began.Add(time.Hour)), Actor: &eventsv1.Actor{Principal: principal},
				Change: &eventsv1.DeviceEvent_AttestationSet{AttestationSet: &eventsv1.AttestationSet{Attestation: &eventsv1.Attestation{
					Kind: &eventsv1.Attestation_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{Primary: []byte(secret)}},
				}}},
			})
		}
		s.flush()
		s.startOf(projections.NewCatalogEvents, s.conn, projections.Options{})
		s.startOf(projections.NewDeviceEvents, s.conn, projections.Options{})
		s.wantLines("SELECT formatRow('TSV', kind, resource, action, subject, expected_version, principal, request_id) FROM audit WHERE tenant = 'a' ORDER BY at",
			"enrollmentGroups\tg\tcreated\t\t0\tuser:ada\tr",
			"enrollmentGroups\tg\tupdated\t\t7\tuser:ada\tr",
			"enrollmentGroups\tg\twritten\t\t0\tuser:ada\tr",
			"enrollmentGroups\tg\tdeleted\t\t0\tuser:ada\tr",
			"devices\td1\tattestation_set\t\t0\tuser:ada\t",
		)
		require.Zero(t, s.number("SELECT count() FROM audit WHERE formatRow('TSV', *) LIKE '%"+secret+"%'"))
		require.Zero(t, s.number("SELECT count() FROM catalog_events WHERE formatRow('TSV', *) LIKE '%"+secret+"%'"))
	})
}

// wantLines waits until the query, whose rows are lines of text, gives just these.
func (s *site) wantLines(sql string, want ...string) {
	s.t.Helper()
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		var got []string
		rows, err := s.conn.Query(s.t.Context(), sql)
		require.NoError(c, err)
		defer rows.Close()
		for rows.Next() {
			var line string
			require.NoError(c, rows.Scan(&line))
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
		require.NoError(c, rows.Err())
		require.Equal(c, want, got)
	}, patience, 10*time.Millisecond)
}

// TestAlertsAreWhatTheirEventsMadeThem: in the log's order, whatever the times say.
func TestAlertsAreWhatTheirEventsMadeThem(t *testing.T) {
	eachSite(t, func(s *site) {
		cause := func(n int) *eventsv1.AlertCause {
			return &eventsv1.AlertCause{Values: fmt.Appendf(nil, `{"t":%d}`, n), WindowEnd: timestamppb.New(s.began)}
		}
		fired := &eventsv1.AlertEvent_Fired{Fired: &eventsv1.AlertFired{Cause: cause(1)}}
		cleared := &eventsv1.AlertEvent_Cleared{Cleared: &eventsv1.AlertCleared{}}
		acknowledged := &eventsv1.AlertEvent_Acknowledged{Acknowledged: &eventsv1.AlertAcknowledged{Note: "seen"}}
		action := &eventsv1.AlertAction{Id: "w", Type: "webhook", Attempt: 1}
		for _, ev := range []*eventsv1.AlertEvent{
			{Alert: "a1", Change: fired},
			{Alert: "a2", Change: fired},
			{Alert: "a3", Change: fired},
			{Alert: "a4", Change: fired},
			{Alert: "a1", Change: &eventsv1.AlertEvent_Repeated{Repeated: &eventsv1.AlertRepeated{Cause: cause(2)}}},
			{Alert: "a2", Change: acknowledged},
			{Alert: "a3", Change: acknowledged},
			{Alert: "a3", Change: cleared},
			{Alert: "a1", Change: &eventsv1.AlertEvent_ActionFailed{ActionFailed: &eventsv1.AlertActionFailed{Action: action, Error: "refused"}}},
			{Alert: "a1", Change: &eventsv1.AlertEvent_ActionDelivered{ActionDelivered: &eventsv1.AlertActionDelivered{Action: action}}},
			{Alert: "a4", Change: &eventsv1.AlertEvent_Withdrawn{Withdrawn: &eventsv1.AlertWithdrawn{}}},
		} {
			ev.Device, ev.Rule, ev.RuleVersion, ev.Severity = "d", "hot", 3, eventsv1.AlertSeverity_ALERT_SEVERITY_ERROR
			s.appendEvents(eventlog.Alerts, ev)
		}
		s.startOf(projections.NewAlertEvents, s.conn, projections.Options{})
		s.wantLines("SELECT formatRow('TSV', alert, device, rule, rule_version, severity, state, times_fired, cause, acknowledged_by, ended_at IS NULL, actions_delivered, actions_failed) FROM alerts WHERE tenant = 'a' ORDER BY alert",
			"a1\td\thot\t3\terror\tactive\t2\t{\"t\":2}\t\t1\t1\t1",
			"a2\td\thot\t3\terror\tacknowledged\t1\t{\"t\":1}\tuser:ada\t1\t0\t0",
			"a3\td\thot\t3\terror\tcleared\t1\t{\"t\":1}\tuser:ada\t0\t0\t0",
			"a4\td\thot\t3\terror\twithdrawn\t1\t{\"t\":1}\t\t0\t0\t0",
		)
	})
}

// TestJobsAreWhatTheirEventsMadeThem: the job, and each of its steps.
func TestJobsAreWhatTheirEventsMadeThem(t *testing.T) {
	eachSite(t, func(s *site) {
		started := &eventsv1.JobEvent_StepStarted{StepStarted: &eventsv1.JobStepStarted{}}
		failed := &eventsv1.JobEvent_StepFailed{StepFailed: &eventsv1.JobStepFailed{Error: "no answer"}}
		for _, ev := range []*eventsv1.JobEvent{
			{Job: "j0", Change: &eventsv1.JobEvent_Created{Created: &eventsv1.JobCreated{DisplayName: "later"}}},
			{Job: "j1", Change: &eventsv1.JobEvent_Created{Created: &eventsv1.JobCreated{DisplayName: "update", Group: "g", Organizations: []string{"o"}}}},
			{Job: "j1", Change: &eventsv1.JobEvent_Started{Started: &eventsv1.JobStarted{Steps: 5}}},
			{Job: "j1", Step: "d1", Attempt: 1, Change: started},
			{Job: "j1", Step: "d2", Attempt: 1, Change: started},
			{Job: "j1", Step: "d1", Attempt: 1, Change: &eventsv1.JobEvent_StepSucceeded{StepSucceeded: &eventsv1.JobStepSucceeded{Result: []byte(`{"ok":1}`)}}},
			{Job: "j1", Step: "d2", Attempt: 1, Change: &eventsv1.JobEvent_StepFailed{StepFailed: &eventsv1.JobStepFailed{RetryAt: timestamppb.New(s.began)}}},
			{Job: "j1", Step: "d3", Attempt: 1, Change: failed},
			{Job: "j1", Step: "d4", Attempt: 1, Change: &eventsv1.JobEvent_StepSkipped{StepSkipped: &eventsv1.JobStepSkipped{Reason: "gone"}}},
			{Job: "j1", Step: "d5", Attempt: 1, Change: failed},
			{Job: "j1", Step: "d5", Attempt: 2, Change: started},
			{Job: "j1", Change: &eventsv1.JobEvent_Cancelled{Cancelled: &eventsv1.JobCancelled{Reason: "too many"}}},
		} {
			ev.Device = ev.GetStep()
			s.appendEvents(eventlog.Jobs, ev)
		}
		s.startOf(projections.NewJobEvents, s.conn, projections.Options{})
		s.wantLines("SELECT formatRow('TSV', job, display_name, device_group, organization, state, created_by, ended_at IS NULL, steps, succeeded, failed, skipped, text) FROM jobs WHERE tenant = 'a' ORDER BY job",
			"j0\tlater\t\t\tpending\tuser:ada\t1\t0\t0\t0\t0\t",
			"j1\tupdate\tg\to\tcancelled\tuser:ada\t0\t5\t1\t1\t1\ttoo many",
		)
		s.wantLines("SELECT formatRow('TSV', step, device, state, attempts, started_at IS NULL, ended_at IS NULL, text, result) FROM job_steps WHERE tenant = 'a' AND job = 'j1' ORDER BY step",
			"d1\td1\tsucceeded\t1\t0\t0\t\t{\"ok\":1}",
			"d2\td2\tretrying\t1\t0\t1\t\t",
			"d3\td3\tfailed\t1\t1\t0\tno answer\t",
			"d4\td4\tskipped\t1\t1\t0\tgone\t",
			"d5\td5\trunning\t2\t0\t1\t\t",
		)
	})
}

// TestWhatIsNoEventIsADeadLetter: with the reason, and nothing behind it is held up.
func TestWhatIsNoEventIsADeadLetter(t *testing.T) {
	eachSite(t, func(s *site) {
		require.NoError(t, schema.Migrate(t.Context(), s.conn))
		good := &eventsv1.JobEvent{Job: "j", Change: &eventsv1.JobEvent_Stopped{Stopped: &eventsv1.JobStopped{}}}
		for topic, table := range map[eventlog.Topic]string{eventlog.Catalog: "catalog", eventlog.Alerts: "alert", eventlog.Jobs: "job"} {
			for _, value := range []string{"\xff\xff", ""} {
				r := eventlog.CloudEvent(s.log.Name(topic), table, "/test", "t", s.began, "", []byte("a/x"), []byte(value))
				require.NoError(t, s.log.AppendSync(t.Context(), r))
			}
		}
		s.appendEvents(eventlog.Jobs, good)
		for _, construct := range []constructor{projections.NewCatalogEvents, projections.NewAlertEvents, projections.NewJobEvents, projections.NewDeadLetter} {
			s.startOf(construct, s.conn, projections.Options{})
		}
		s.wantLines("SELECT formatRow('TSV', stage, count()) FROM dead_letter FINAL GROUP BY stage ORDER BY stage",
			"project-alert-events\t2", "project-catalog-events\t2", "project-job-events\t2")
		s.wantLines("SELECT formatRow('TSV', count()) FROM job_events", "1")
	})
}
