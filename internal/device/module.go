package device

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// maxModules is how many modules one device may have (FEATURES.md 6.1).
const maxModules = 50

var modulePattern = regexp.MustCompile(`^[$a-zA-Z0-9\-._:]*[a-zA-Z0-9\-]$`)

// ValidateModuleID checks a module id. System modules begin with a `$`.
func ValidateModuleID(id string) error {
	if id == "" || len(id) > MaxIDLength || !modulePattern.MatchString(id) || strings.LastIndexByte(id, '$') > 0 {
		return fmt.Errorf("module id %q is not valid: use 1 to %d letters, digits, '-', '.', '_' or ':', ending in a letter, a digit or '-'", clip(id), MaxIDLength)
	}
	return nil
}

// IdentityOf is the device's own identity, or that of one of its modules; nil
// when there is no such module. It is shared and must not be changed.
func IdentityOf(s *eventsv1.DeviceState, module string) *eventsv1.Identity {
	if module == "" {
		if self := s.GetSelf(); self != nil {
			return self
		}
		return &eventsv1.Identity{}
	}
	if i, found := findModule(s, module); found {
		return s.GetModules()[i]
	}
	return nil
}

func findModule(s *eventsv1.DeviceState, module string) (int, bool) {
	return slices.BinarySearchFunc(s.GetModules(), module, func(i *eventsv1.Identity, id string) int { return strings.Compare(i.GetModule(), id) })
}

// own gives the state a copy of an identity that may be changed; nil when there
// is no such module.
func own(next *eventsv1.DeviceState, module string) *eventsv1.Identity {
	before := IdentityOf(next, module)
	if before == nil {
		return nil
	}
	after := &eventsv1.Identity{
		Module: module, Connection: before.GetConnection(), Twin: before.GetTwin(),
		Commands: before.GetCommands(), Messages: before.GetMessages(), MessagesQueued: before.GetMessagesQueued(),
	}
	if module == "" {
		next.Self = after
		return after
	}
	i, _ := findModule(next, module)
	next.Modules = slices.Clone(next.GetModules())
	next.Modules[i] = after
	return after
}

func registerModule(next *eventsv1.DeviceState, module string) *eventsv1.Rejection {
	i, found := findModule(next, module)
	if found {
		return nil
	}
	if len(next.GetModules()) >= maxModules {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_LIMIT, "device %q has %d modules already: delete one first", next.GetDevice(), maxModules)
	}
	next.Modules = slices.Insert(slices.Clone(next.GetModules()), i, &eventsv1.Identity{Module: module})
	return nil
}

func removeModule(next *eventsv1.DeviceState, module string) *eventsv1.Rejection {
	i, found := findModule(next, module)
	if !found {
		return noModule(next.GetDevice(), module)
	}
	next.Modules = slices.Delete(slices.Clone(next.GetModules()), i, i+1)
	return nil
}

func noModule(id, module string) *eventsv1.Rejection {
	return rejection(eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND, "device %q has no module %q", id, module)
}

// expire lets go of what its time is over for, whichever event tells the time.
func expire(next *eventsv1.DeviceState, at time.Time, outcome *eventsv1.Outcome) {
	if overdue(next.GetSelf(), at) {
		expireIdentity(own(next, ""), at, outcome)
	}
	for _, m := range next.GetModules() {
		if overdue(m, at) {
			expireIdentity(own(next, m.GetModule()), at, outcome)
		}
	}
}

func overdue(i *eventsv1.Identity, at time.Time) bool {
	return slices.ContainsFunc(i.GetCommands(), func(c *eventsv1.Command) bool { return commandOver(c, at) }) ||
		slices.ContainsFunc(i.GetMessages(), func(m *eventsv1.CloudMessage) bool { return MessageOver(m, at) })
}

func expireIdentity(i *eventsv1.Identity, at time.Time, outcome *eventsv1.Outcome) {
	var waiting []*eventsv1.Command
	for _, c := range i.GetCommands() {
		if commandOver(c, at) {
			outcome.Results = append(outcome.Results, &eventsv1.CommandResult{Command: c.GetId(), At: c.GetDeadline()})
			continue
		}
		waiting = append(waiting, c)
	}
	i.Commands = waiting
	i.Messages = without(i.GetMessages(), func(m *eventsv1.CloudMessage) bool { return MessageOver(m, at) })
}

// without is the elements that do not match, in a slice of its own.
func without[T any](all []T, match func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), match)
}
