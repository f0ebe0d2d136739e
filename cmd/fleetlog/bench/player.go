package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
)

// A player is this command again, started with -play-devices: a process that
// plays some devices of a crowd. It reads what to do from its standard input, a
// word a line after the first, and answers each with a line.
type player struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Scanner
}

// part is the first line a player reads: whom it plays.
type part struct {
	Address string        `json:"address"`
	CAFile  string        `json:"caFile"` // empty: without TLS
	Source  int           `json:"source"` // of its own loopback address
	Devices []load.Device `json:"devices"`
	Rate    float64       `json:"rate"` // messages/s of all
}

const (
	playConnect  = "connect"
	playBreakOff = "break-off"
	playPublish  = "publish"
	playDone     = "done"
)

type players []*player

// startPlayers starts a player a gateway, each with its part of the crowd.
func (s *crowdSite) startPlayers(ctx context.Context, secure bool) (players, error) {
	var all players
	share := (len(s.crowd) + len(s.gateways) - 1) / len(s.gateways)
	for i, gateway := range s.gateways {
		devices := s.crowd[min(i*share, len(s.crowd)):min((i+1)*share, len(s.crowd))]
		p := part{Address: gateway.mqtt(), Source: i, Devices: devices, Rate: float64(len(devices)) / crowdEvery.Seconds()}
		if secure {
			p.Address, p.CAFile = gateway.endpoints.MQTTS, filepath.Join(gateway.dir, "tls", "ca.pem")
		}
		started, err := startPlayer(ctx, p)
		if err != nil {
			return all, err
		}
		all = append(all, started)
	}
	return all, nil
}

func startPlayer(ctx context.Context, p part) (*player, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, "-play-devices")
	dieWithParent(c)
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start a process that plays devices: %w", err)
	}
	started := &player{command: c, in: in, out: bufio.NewScanner(out)}
	return started, json.NewEncoder(in).Encode(p)
}

// do has all players do something at the same time and takes how long.
func (all players) do(what string) (time.Duration, error) {
	began := time.Now()
	var doing errgroup.Group
	for _, p := range all {
		doing.Go(func() error {
			if _, err := fmt.Fprintln(p.in, what); err != nil {
				return err
			}
			if !p.out.Scan() {
				return errors.Join(errors.New("a process that plays devices has ended"), p.out.Err())
			}
			if answer := p.out.Text(); answer != playDone {
				return fmt.Errorf("%s: %s", what, answer)
			}
			return nil
		})
	}
	err := doing.Wait()
	return time.Since(began), err
}

func (all players) connect() (time.Duration, error) { return all.do(playConnect) }

func (all players) breakOff() error { _, err := all.do(playBreakOff); return err }

func (all players) publish() error { _, err := all.do(playPublish); return err }

func (all players) stop() error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.in.Close())
	}
	for _, p := range all {
		errs = append(errs, p.command.Wait())
	}
	return errors.Join(errs...)
}

// playDevices is what a player does until its input ends.
func playDevices(ctx context.Context, in io.Reader, out io.Writer) error {
	if _, err := raiseFileLimit(); err != nil {
		return err
	}
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read whom to play: %w", err)
	}
	a := &actor{}
	if err := json.Unmarshal(first, &a.part); err != nil {
		return fmt.Errorf("read whom to play: %w", err)
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return a.leave()
		}
		answer := playDone
		if err := a.act(ctx, strings.TrimSpace(line)); err != nil {
			answer = firstLine(err)
		}
		if _, err := fmt.Fprintln(out, answer); err != nil {
			return err
		}
	}
}

// actor is a player from the inside.
type actor struct {
	part       part
	fleet      *load.Fleet
	stop       context.CancelFunc
	publishing chan error
}

func (a *actor) act(ctx context.Context, what string) (err error) {
	switch what {
	case playConnect:
		a.fleet, err = load.Connect(ctx, load.Options{
			Address: a.part.Address, CAFile: a.part.CAFile, Devices: a.part.Devices, Payload: meterPayload(0), Inflight: 1, Source: a.part.Source + 1,
		})
	case playBreakOff:
		a.fleet.Abort()
	case playPublish:
		var publishing context.Context
		publishing, a.stop = context.WithCancel(ctx)
		a.publishing = make(chan error, 1)
		go func() {
			_, err := a.fleet.Publish(publishing, load.Pace{Rate: a.part.Rate, Duration: time.Hour})
			a.publishing <- err
		}()
	default:
		err = fmt.Errorf("unknown: %s", what)
	}
	return err
}

func (a *actor) leave() error {
	if a.stop != nil {
		a.stop()
		if err := <-a.publishing; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	if a.fleet != nil {
		return a.fleet.Close()
	}
	return nil
}
