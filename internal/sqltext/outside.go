package sqltext

import (
	"fmt"
	"strings"
)

// Functions that read files or models of the machine, or call services, and need no
// grant. They are refused without arguments too: a name alone can stand for a
// function, as in APPLY file and arrayMap(file, …).
var outsideFunctions = names(`file catboostEvaluate aiClassify aiEmbed aiExtract aiGenerate aiTranslate`)

// The same with arguments only: table functions, disks, and what takes none or
// constants.
var outsideCalls = names(`eval arrowstream executable disk getServerPort showCertificate getOSKernelVersion`)

// Table engines that store or read outside of the storage directory without a grant.
var outsideEngines = names(`EmbeddedRocksDB FileLog ArrowStream Executable ExecutablePool Kafka RabbitMQ NATS Redis MongoDB`)

// Settings, by how they begin, that name files and hosts, that make expressions of
// texts or of inserted rows, that have statements read as another language, and that
// turn functions of the lists on.
var outsideSettings = []string{"format_template_", "format_schema", "output_format_schema", "input_format_record_errors", "format_avro_schema_registry",
	"rename_files", "url_base", "input_format_values_", "additional_table_filters", "additional_result_filter", "parallel_replicas_custom_key", "dialect", "polyglot", "promql", "allow_experimental_eval",
	"allow_experimental_ai", "ai_function", "allow_introspection"}

// OutsideSetting reports whether a setting could reach outside of ClickHouse.
func OutsideSetting(name string) bool {
	for _, prefix := range outsideSettings {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

// Refused reports whether statements are refused that have the name bare, as that of
// a column.
func Refused(name string) bool { return outsideFunctions[strings.ToLower(name)] }

// Outside is the error of a statement that asks for what lies outside of ClickHouse,
// whoever asks.
func Outside(statement string) error {
	s := Scanner{Source: []byte(statement)}
	for w := (window{}); ; {
		w.before, w.last, w.token = w.last, w.token, s.Next()
		w.next = s.Peek()
		if w.token.Kind == End {
			return nil
		}
		if err := w.outside(); err != nil {
			return err
		}
	}
}

// window is a token with those around it.
type window struct{ before, last, token, next Token }

func (w window) outside() error {
	if w.token.Kind == Sign && w.token.Text[0] >= 0x80 {
		return fmt.Errorf("the statement has a character that is not ASCII outside of quotes: %q", w.token.Text)
	}
	name, ok := w.token.name()
	if !ok {
		return nil
	}
	switch {
	case outsideFunctions[name] && w.mayBeFunction(), outsideCalls[name] && w.calls():
		return fmt.Errorf("%s is not available here: it reaches outside of ClickHouse. If it is a column, write it behind its table, as t.%s", name, name)
	case outsideEngines[name] && (w.last.Is("ENGINE") || w.last.Is("=") && w.before.Is("ENGINE")):
		return fmt.Errorf("tables of the engine %s are not available here: they reach outside of ClickHouse", w.token.Text)
	case OutsideSetting(name) && w.next.Is("=") && !w.last.Is("."):
		return fmt.Errorf("the setting %s cannot be changed here: it reaches outside of ClickHouse", name)
	case (name == "stack_trace" || name == "models") && w.of("system"):
		// Reading the one stops every thread with a signal, which the process around the
		// engine does not survive; the other starts a program.
		return fmt.Errorf("system.%s is not available here", name)
	}
	return nil
}

// of reports whether the name stands behind another and a dot.
func (w window) of(what string) bool {
	name, _ := w.before.name()
	return w.last.Is(".") && name == what
}

// mayBeFunction reports whether the name could stand for a function in any way.
func (w window) mayBeFunction() bool {
	return w.next.Is("(") || !w.last.Is(".") && !w.last.Is("AS") && !w.next.Is(".")
}

// calls reports whether the name is called, by itself, by APPLY or in place of a lambda.
func (w window) calls() bool {
	return w.next.Is("(") || w.last.Is("APPLY") || w.last.Is("(") && (w.before.Is("APPLY") || w.next.Is(","))
}

// name is the identifier in lower case; false for what is none.
func (t Token) name() (string, bool) {
	return strings.ToLower(t.written()), t.Kind == Word || t.Kind == Quoted
}

// written is the identifier, or what else there is, as it was written.
func (t Token) written() string {
	if t.Kind == Quoted {
		return t.Unquoted()
	}
	return string(t.Text)
}

// Unquoted is what stands between quotes. It takes every escape for the character
// that it could mean.
func (t Token) Unquoted() string {
	text := string(t.Text)
	switch {
	case strings.HasPrefix(text, "“"), strings.HasPrefix(text, "‘"):
		return strings.TrimSuffix(strings.TrimSuffix(text[len("“"):], "”"), "’")
	case strings.HasPrefix(text, "$"):
		mark := text[:strings.IndexByte(text[1:], '$')+2]
		return strings.TrimSuffix(strings.TrimPrefix(text, mark), mark)
	case len(text) < 2:
		return ""
	}
	quote := text[0]
	text = strings.TrimSuffix(text[1:], string(quote))
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == quote && i+1 < len(text) && text[i+1] == quote:
			i++
		case c == '\\' && i+1 < len(text):
			i++
			if c = text[i]; c == 'x' && i+2 < len(text) {
				c = hexDigit(text[i+1])<<4 | hexDigit(text[i+2])
				i += 2
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0
}

// names is a set of names in lower case.
func names(list string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(list) {
		set[strings.ToLower(name)] = true
	}
	return set
}
