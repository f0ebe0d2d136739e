package chdb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScanFindsRows(t *testing.T) {
	for _, test := range []struct {
		name, source, statement, format, rows string
	}{
		{"values", "INSERT INTO t VALUES (1)", "INSERT INTO t ", "Values", " (1)"},
		{"columns", "insert into db.`t``x` (a, `b)`) values (1)", "insert into db.`t``x` (a, `b)`) ", "Values", " (1)"},
		{"format and line end", "INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t", "CSV", "1,2\n"},
		{"format and space", "INSERT INTO t FORMAT CSV 1,2", "INSERT INTO t", "CSV", "1,2"},
		{"format and windows line end", "INSERT INTO t FORMAT CSV \r\n1,2", "INSERT INTO t", "CSV", "1,2"},
		{"format and semicolon", "INSERT INTO t FORMAT CSV;\n1,2", "INSERT INTO t", "CSV", "1,2"},
		{"only one line end is the statement's", "INSERT INTO t FORMAT CSV\n\n1,2", "INSERT INTO t", "CSV", "\n1,2"},
		{"binary rows", "INSERT INTO t (a) FORMAT Native\n\x02\x01 \n\x00", "INSERT INTO t (a)", "Native", "\x02\x01 \n\x00"},
		{"settings before", "INSERT INTO t SETTINGS a=1, b='x FORMAT y' FORMAT CSV\n1", "INSERT INTO t SETTINGS a=1, b='x FORMAT y'", "CSV", "1"},
		{"settings behind", "INSERT INTO t FORMAT CSV SETTINGS a=-1, b='x'\n1", "INSERT INTO t SETTINGS a=-1, b='x'", "CSV", "1"},
		{"comment at the end", "INSERT INTO t -- x", "INSERT INTO t", "Values", ""},
		{"no format", "INSERT INTO t (a, b)\n", "INSERT INTO t (a, b)", "Values", ""},
		{"table named like a keyword", "INSERT INTO values FORMAT CSV\n1", "INSERT INTO values", "CSV", "1"},
		{"function", "INSERT INTO TABLE FUNCTION file('VALUES', CSV) VALUES (1)", "INSERT INTO TABLE FUNCTION file('VALUES', CSV) ", "Values", " (1)"},
		{"comments", "-- FORMAT x\n/* INSERT */ INSERT /* VALUES */ INTO t -- y\nFORMAT TSV\n1", "-- FORMAT x\n/* INSERT */ INSERT /* VALUES */ INTO t", "TSV", "1"},
		{"rows that look like SQL", "INSERT INTO t FORMAT LineAsString\nSELECT 1; DROP TABLE t", "INSERT INTO t", "LineAsString", "SELECT 1; DROP TABLE t"},
		{"parameter as table", "INSERT INTO {t:Identifier} FORMAT CSV\n1", "INSERT INTO {t:Identifier}", "CSV", "1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := scan([]byte(test.source))
			require.True(t, got.insert)
			require.Equal(t, test.format, got.format)
			require.Equal(t, test.statement, got.statement)
			require.Equal(t, test.rows, test.source[got.rows:])
		})
	}
}

func TestScanFindsOtherStatements(t *testing.T) {
	for _, test := range []struct {
		name, source string
		want         text
	}{
		{"select", "SELECT 'INSERT INTO t VALUES'", text{query: true}},
		{"format", "SELECT 1 FORMAT JSON", text{query: true, format: "JSON"}},
		{"format, settings, end", "select 1 format JSON settings a=1 ; ", text{query: true, format: "JSON"}},
		{"format within is not ours", "SELECT format('{}', x), (SELECT 1 AS format) FROM t", text{query: true}},
		{"with", "WITH 1 AS x SELECT x", text{query: true}},
		{"parentheses", "(SELECT 1) UNION ALL (SELECT 2) FORMAT CSV", text{query: true, format: "CSV"}},
		{"create", "CREATE TABLE t (a Int8) ENGINE = Memory", text{}},
		{"two", "SELECT 1; SELECT 2", text{query: true, several: true}},
		{"two with comment", "DROP TABLE a; -- b\n ;;", text{}},
		{"nested comment", "SELECT 1 /* a /* b */ ; DROP */ FORMAT CSV", text{query: true, format: "CSV"}},
		{"slashes", "SELECT 1 // ; DROP\nFORMAT CSV", text{query: true, format: "CSV"}},
		{"typographic quotes", "SELECT ‘;’ AS “;” FORMAT\u00a0CSV", text{query: true, format: "CSV"}},
		{"heredoc", "SELECT $x$ ; ' $x$ FORMAT CSV", text{query: true, format: "CSV"}},
		{"escaped quote", `SELECT 'a\'; DROP', "b"";", 1`, text{query: true}},
		{"insert select", "INSERT INTO t SELECT 1 FORMAT CSV", text{format: "CSV"}},
		{"insert select in parentheses", "INSERT INTO t (a) (SELECT 1)", text{}},
		{"insert with", "INSERT INTO t WITH 1 AS x SELECT x", text{}},
		{"input", "INSERT INTO t SELECT a FROM (SELECT a FROM input('a Int8')) FORMAT CSV\n1", text{format: "CSV", input: true}},
		{"outfile", "SELECT 1 INTO OUTFILE 'x'", text{query: true, files: true}},
		{"infile", "INSERT INTO t FROM INFILE 'x' FORMAT CSV", text{files: true, format: "CSV"}},
		{"explain", "EXPLAIN INSERT INTO t VALUES (1)", text{}},
		{"empty", " -- nothing", text{}},
		{"open quote", "SELECT 'abc", text{query: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := scan([]byte(test.source))
			require.Equal(t, test.source, got.statement)
			test.want.statement = got.statement
			require.Equal(t, test.want, got)
		})
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		"INSERT INTO t VALUES (1)", "INSERT INTO t FORMAT CSV SETTINGS a=1\n1", "SELECT 1; SELECT 2", "INSERT INTO t (SELECT 1)",
		"SELECT $a$ x $a$", "/* ", "'\\", "INSERT", "INSERT INTO", "INSERT INTO a.", "INSERT INTO t FORMAT", "INSERT INTO t FORMAT CSV SETTINGS",
		"((((", "`", "$$", "#", "--", "INSERT INTO t FORMAT CSV;",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		got := scan(source)
		require.LessOrEqual(t, got.rows, len(source))
		require.GreaterOrEqual(t, got.rows, 0)
		if got.insert {
			require.NotEmpty(t, got.format)
			require.False(t, got.query || got.several)
			return
		}
		require.Equal(t, string(source), got.statement)
	})
}

func FuzzParsePart(f *testing.F) {
	f.Add("all_1_2_3")
	f.Add("all_1_2_3_4")
	f.Add("tmp_insert_all_1_1_0")
	f.Fuzz(func(t *testing.T, name string) {
		if p, ok := parsePart(name); ok {
			require.True(t, p.covers(p) || p.max < p.min)
		}
	})
}
