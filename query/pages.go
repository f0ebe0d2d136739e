package query

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	openapi "github.com/fleetlog/fleetlog/proto"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	swagger "github.com/swaggo/files/v2"
)

// pages adds what is around the API: its description, health and metrics.
func (s *Server) pages(api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", api)
	sql := newSQLDoor(s.deps, s.gate.refusals, analystLimits)
	mux.Handle(sqlPath, sql)
	mux.Handle(sqlPath+"/{$}", sql)
	mux.Handle(sqlPath+"/ping", sql)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/docs/", http.StatusFound) })
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openapi.OpenAPI)
	})
	mux.Handle("GET /docs/", http.StripPrefix("/docs/", http.HandlerFunc(docs)))
	mux.Handle("GET /docs", http.RedirectHandler("/docs/", http.StatusFound))
	Operations(mux, s.deps.Metrics, s.deps.Ready)
	return mux
}

// Operations adds a node's metrics and health: /metrics, /healthz, which answers
// as long as the process does, and /readyz.
func Operations(mux *http.ServeMux, metrics *prometheus.Registry, ready map[string]func(context.Context) error) {
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { readyz(w, r, ready) })
}

// readyTimeout bounds one check of all parts.
const readyTimeout = 3 * time.Second

// readyz answers 200 when every part is ready, else 503 and what each waits for.
func readyz(w http.ResponseWriter, r *http.Request, parts map[string]func(context.Context) error) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	answer := struct {
		Status string            `json:"status"`
		Parts  map[string]string `json:"parts"`
	}{"ready", map[string]string{}}
	code := http.StatusOK
	for name, ready := range parts {
		answer.Parts[name] = "ready"
		if err := ready(ctx); err != nil {
			answer.Status, answer.Parts[name], code = "not ready", err.Error(), http.StatusServiceUnavailable
		}
	}
	writeJSON(w, code, answer)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the caller may be gone
}

// docsPage is Swagger UI on our document, without a line of script of its own in
// the page, so that the content security policy can forbid it.
const docsPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Fleetlog API</title>
<link rel="stylesheet" href="swagger-ui.css"><link rel="icon" href="favicon-32x32.png"></head>
<body><div id="swagger-ui"></div>
<script src="swagger-ui-bundle.js"></script><script src="start.js"></script></body></html>
`

const docsScript = `SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true });
`

func docs(w http.ResponseWriter, r *http.Request) {
	switch name := strings.TrimPrefix(r.URL.Path, "/"); name {
	case "", "index.html":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(docsPage))
	case "start.js":
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write([]byte(docsScript))
	default:
		http.FileServerFS(swagger.FS).ServeHTTP(w, r)
	}
}
