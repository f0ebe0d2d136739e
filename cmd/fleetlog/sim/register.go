package sim

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"
)

const (
	registering   = 64               // API calls at the same time
	maxReplyBytes = 1 << 20          // what is read of an answer
	callTimeout   = 10 * time.Second // of one API call
	patience      = 30 * time.Second // with an API that is busy or starting
)

// registrar makes devices known to the platform and learns their keys.
type registrar struct {
	api, token string
	client     *http.Client
}

func newRegistrar(api, token string) *registrar {
	return &registrar{
		api: strings.TrimRight(api, "/"), token: strings.TrimSpace(token),
		client: &http.Client{Timeout: callTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: registering}},
	}
}

// Register returns the primary keys of the devices, in the order of their ids. It
// creates the devices that don't exist, and waits half a minute for an API that is
// busy or starting.
func Register(ctx context.Context, api, token string, ids []string) ([][]byte, error) {
	return newRegistrar(api, token).register(ctx, ids)
}

func (r *registrar) register(ctx context.Context, ids []string) ([][]byte, error) {
	defer r.client.CloseIdleConnections()
	keys := make([][]byte, len(ids))
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(registering)
	for i, id := range ids {
		if running.Err() != nil {
			break
		}
		group.Go(func() (err error) {
			if keys[i], err = r.key(running, id); err != nil {
				return fmt.Errorf("register device %s: %w", id, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return keys, ctx.Err()
}

func (r *registrar) key(ctx context.Context, id string) ([]byte, error) {
	resource := "/api/devices/" + url.PathEscape(id)
	reply, err := r.call(ctx, http.MethodGet, resource+"/credentials", nil)
	var refused *refusal
	if errors.As(err, &refused) && refused.status == http.StatusNotFound {
		body, _ := json.Marshal(map[string]any{"displayName": id}) // strings always marshal
		if _, err = r.call(ctx, http.MethodPut, resource, body); err == nil {
			reply, err = r.call(ctx, http.MethodGet, resource+"/credentials", nil)
		}
	}
	if err != nil {
		return nil, err
	}
	var credentials struct {
		SymmetricKey struct {
			PrimaryKey []byte `json:"primaryKey"`
		} `json:"symmetricKey"`
	}
	if err := json.Unmarshal(reply, &credentials); err != nil {
		if corrupt := base64.CorruptInputError(0); errors.As(err, &corrupt) {
			return nil, errors.New("its primary key is not base64")
		}
		return nil, fmt.Errorf("read its credentials: %w", err)
	}
	if len(credentials.SymmetricKey.PrimaryKey) == 0 {
		return nil, errors.New("its credentials have no symmetric key")
	}
	return credentials.SymmetricKey.PrimaryKey, nil
}

// refusal is an answer other than 2xx.
type refusal struct {
	call    string
	status  int
	message string
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("%s answered %d %s", r.call, r.status, http.StatusText(r.status))
	if r.message != "" {
		text += ": " + r.message
	}
	return text
}

// call makes one API call; it tries again while the API is busy or not there yet.
func (r *registrar) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	return backoff.Retry(ctx, func() ([]byte, error) {
		reply, err := r.once(ctx, method, path, body)
		var refused *refusal
		if errors.As(err, &refused) && refused.status != http.StatusTooManyRequests && refused.status < http.StatusInternalServerError {
			return nil, backoff.Permanent(err)
		}
		return reply, err
	}, backoff.WithMaxElapsedTime(patience))
}

func (r *registrar) once(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.api+path, bytes.NewReader(body))
	if err != nil {
		return nil, backoff.Permanent(err)
	}
	request.Header.Set("Authorization", r.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReplyBytes))
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 == 2 {
		return reply, nil
	}
	var failure struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	_ = json.Unmarshal(reply, &failure) // a body of another form has no message
	return nil, &refusal{call: method + " " + path, status: response.StatusCode, message: failure.Error.Message}
}
