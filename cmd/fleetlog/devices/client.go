package devices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// apiFlags say where the API is.
type apiFlags struct {
	DataDir string `help:"Data directory of a local 'fleetlog run', to learn its address and administrator token from." type:"path" default:"./fleetlog-data" placeholder:"DIR"`
	API     string `name:"api" help:"Address of the REST API instead of the local one." placeholder:"URL"`
	Token   string `help:"File with the administrator token; the local one by default." name:"token-file" type:"path" placeholder:"FILE"`
}

// client calls the API.
type client struct{ address, token string }

func (f *apiFlags) client() (*client, error) {
	address := f.API
	if address == "" {
		var local struct {
			API string `json:"api"`
		}
		path := filepath.Join(f.DataDir, "endpoints.json")
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s doesn't exist: start 'fleetlog run' here first, name its directory with --data-dir, or give --api and --token-file", path)
		}
		if err == nil {
			err = json.Unmarshal(text, &local)
		}
		if err != nil {
			return nil, fmt.Errorf("read the platform's addresses from %s: %w", path, err)
		}
		address = local.API
	}
	file := f.Token
	if file == "" {
		file = filepath.Join(f.DataDir, "admin-token")
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the administrator token: %w; name its file with --token-file", err)
	}
	return &client{address: strings.TrimRight(address, "/"), token: strings.TrimSpace(string(token))}, nil
}

// operation is how far an import or export is.
type operation struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Status    string `json:"status"`
	Failure   string `json:"failure"`
	Total     int    `json:"total"`
	Succeeded int    `json:"succeeded"`
	Failed    int    `json:"failed"`
}

const statusCompleted = "completed"

func (o operation) ended() bool { return o.Status != "pending" && o.Status != "running" }

// exportRequest is which devices are exported.
type exportRequest struct {
	DisplayName string   `json:"displayName,omitempty"`
	DeviceGroup string   `json:"deviceGroup,omitempty"`
	Filter      string   `json:"filter,omitempty"`
	IDs         []string `json:"ids,omitempty"`
}

func (a *client) startExport(ctx context.Context, asked exportRequest) (operation, error) {
	body, err := json.Marshal(asked)
	if err != nil {
		return operation{}, fmt.Errorf("encode the request: %w", err)
	}
	return a.start(ctx, "/api/devices/export", "application/json", bytes.NewReader(body))
}

func (a *client) start(ctx context.Context, path, contentType string, body io.Reader) (operation, error) {
	answer, err := a.call(ctx, http.MethodPost, path, contentType, body)
	if err != nil {
		return operation{}, err
	}
	return decode(answer)
}

func (a *client) get(ctx context.Context, id string) (operation, error) {
	answer, err := a.call(ctx, http.MethodGet, "/api/deviceOperations/"+id, "", nil)
	if err != nil {
		return operation{}, err
	}
	return decode(answer)
}

// maxAnswerBytes bounds what is read of an operation or an error.
const maxAnswerBytes = 1 << 20

func decode(answer io.ReadCloser) (o operation, err error) {
	defer answer.Close()
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswerBytes)).Decode(&o); err != nil {
		return o, fmt.Errorf("read the answer: %w", err)
	}
	return o, nil
}

// call makes one API call. Close what it returns.
func (a *client) call(ctx context.Context, method, path, contentType string, body io.Reader) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.address+path, body)
	if err != nil {
		return nil, fmt.Errorf("the API's address: %w", err)
	}
	request.Header.Set("Authorization", a.token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("call the API: %w", err)
	}
	if response.StatusCode/100 == 2 {
		return response.Body, nil
	}
	defer response.Body.Close()
	var failure struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	// A body of another form has no message.
	_ = json.NewDecoder(io.LimitReader(response.Body, maxAnswerBytes)).Decode(&failure)
	return nil, &refusal{status: response.StatusCode, message: failure.Error.Message}
}

// refusal is an answer other than 2xx.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the API answered %d %s", r.status, http.StatusText(r.status))
	if r.message != "" {
		text += ": " + r.message
	}
	return text
}

// busy reports whether the API may answer when it is asked again.
func busy(err error) bool {
	var refused *refusal
	return !errors.As(err, &refused) || refused.status >= http.StatusInternalServerError || refused.status == http.StatusTooManyRequests
}
