package operations

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// readAll is each row as `line id name tags`, and each problem as `line code device`.
func readAll(t require.TestingT, file string) (rows, problems []string) {
	r, err := newRowReader(strings.NewReader(file))
	require.NoError(t, err)
	for {
		one, bad, err := r.next()
		if errors.Is(err, io.EOF) {
			return rows, problems
		}
		require.NoError(t, err)
		if bad != nil {
			require.NotEmpty(t, bad.message)
			problems = append(problems, fmt.Sprintf("%d %s %s", bad.line, bad.code, bad.device))
			continue
		}
		rows = append(rows, strings.TrimSpace(fmt.Sprintf("%d %s %s %s", one.line, one.id, one.name, one.tags)))
	}
}

func TestEachRowIsReadOrReported(t *testing.T) {
	const header = "IOTC_DEVICEID,IOTC_DEVICENAME\n"
	for _, tc := range []struct {
		name, file     string
		rows, problems []string
	}{
		{"IoT Central's sample: a byte order mark, line ends of Windows", "\ufeffIOTC_DEVICEID,IOTC_DEVICENAME\r\nd-1,Lobby\r\nd-2,Roof\r\n", []string{"2 d-1 Lobby", "3 d-2 Roof"}, nil},
		{"no line end at the end", header + "d-1,Lobby", []string{"2 d-1 Lobby"}, nil},
		{"ids only", "IOTC_DEVICEID\nd-1\nd-2\n", []string{"2 d-1", "3 d-2"}, nil},
		{"no rows", header, nil, nil},
		{"a name that is left out", header + "d-1,\n", []string{"2 d-1"}, nil},
		{"columns in another order, and others'", "x,iotc_devicename, IOTC_DEVICEID \n1,Lobby,d-1\n", []string{"2 d-1 Lobby"}, nil},
		{"semicolons", "IOTC_DEVICEID;IOTC_DEVICENAME\nd-1;a, b\n", []string{"2 d-1 a, b"}, nil},
		{"quotes", header + "\"d-1\",\"the \"\"old\"\" one, upstairs\"\n", []string{`2 d-1 the "old" one, upstairs`}, nil},
		{"a line end in a name", header + "d-1,\"a\nb\"\nd-2,c\n", []string{"2 d-1 a\nb", "4 d-2 c"}, nil},
		{"rows without content", header + "\n , \nd-1,a\n,\n", []string{"4 d-1 a"}, nil},
		{"tags", "IOTC_DEVICEID,TAG_site,tag_Floor\nd-1,Berlin,3\nd-2,,\n", []string{`2 d-1  {"Floor":"3","site":"Berlin"}`, "3 d-2"}, nil},
		{"an export of ours", strings.Join(resultHeader, ",") + "\nd-1,'=x,+k=,k,,\n", []string{"2 d-1 =x"}, nil},
		{"ids that cannot be", header + "d 1,a\n,b\nd_2/x,c\n" + strings.Repeat("x", 129) + ",d\nd-3,e\n", []string{"6 d-3 e"},
			[]string{"2 InvalidId d 1", "3 InvalidId ", "4 InvalidId d_2/x", "5 InvalidId " + strings.Repeat("x", 129)}},
		{"an id twice", header + "d-1,a\nd-2,b\nd-1,c\n", []string{"2 d-1 a", "3 d-2 b"}, []string{"4 DuplicateId d-1"}},
		{"an id whose first row was wrong", header + "d-1\nd-1,c\n", []string{"3 d-1 c"}, []string{"2 WrongColumnCount d-1"}},
		{"too few and too many columns", header + "d-1\nd-2,b,c\nd-3,d\n", []string{"4 d-3 d"}, []string{"2 WrongColumnCount d-1", "3 WrongColumnCount d-2"}},
		{"names at the limit", header + "d-1," + strings.Repeat("ä", 148) + "\nd-2," + strings.Repeat("ä", 149) + "\n", []string{"2 d-1 " + strings.Repeat("ä", 148)}, []string{"3 InvalidName d-2"}},
		{"a quote in the middle", header + "d-1,a\"b\nd-2,c\n", []string{"3 d-2 c"}, []string{"2 InvalidCsv "}},
		{"text after a quote", header + "d-1,\"a\"b\nd-2,c\n", []string{"3 d-2 c"}, []string{"2 InvalidCsv "}},
		{"a quote that is not closed", header + "d-1,a\nd-2,\"b\nd-3,c\n", []string{"2 d-1 a"}, []string{"3 InvalidCsv "}},
		{"Latin-1", header + "d-1,M\xfcller\nd-2,b\n", []string{"3 d-2 b"}, []string{"2 InvalidText d-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rows, problems := readAll(t, tc.file)
			require.Equal(t, tc.rows, rows)
			require.Equal(t, tc.problems, problems)
			total, err := countRows(strings.NewReader(tc.file))
			require.NoError(t, err)
			require.EqualValues(t, len(rows)+len(problems), total)
		})
	}
}

func TestAHeaderThatDoesNotDoIsExplained(t *testing.T) {
	for _, tc := range []struct{ name, file, says string }{
		{"nothing", "", "empty"},
		{"a mark only", "\ufeff", "empty"},
		{"no header", "d-1,Lobby\n", "IOTC_DEVICEID is missing"},
		{"a name only", "IOTC_DEVICENAME\nLobby\n", "IOTC_DEVICEID is missing"},
		{"a column twice", "IOTC_DEVICEID,IOTC_DEVICEID\nd,d\n", "twice"},
		{"a tag twice", "IOTC_DEVICEID,TAG_a,TAG_a\nd,d,d\n", "twice"},
		{"UTF-16", "I\x00O\x00T\x00C\x00", "UTF-8"},
		{"not CSV", "\"IOTC_DEVICEID\nd\n", "not CSV"},
		{"many columns", strings.Repeat("x,", 256) + "IOTC_DEVICEID\n", "at most 256"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newRowReader(strings.NewReader(tc.file))
			var bad *problem
			require.ErrorAs(t, err, &bad)
			require.Contains(t, bad.message, tc.says)
			require.Equal(t, 1, bad.line)
		})
	}
	_, err := countRows(strings.NewReader("IOTC_DEVICEID\n" + strings.Repeat("d\n", maxRows+1)))
	require.ErrorContains(t, err, "100000 rows")
}

// TestNoCellIsAFormula exports any text to a cell that is none, and has it back.
func TestNoCellIsAFormula(t *testing.T) {
	for text, want := range map[string]string{
		"Lobby": "Lobby", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\tx": "'\tx", "": "", "'": "'", "'n Sync": "'n Sync", "'=1": "''=1", "a=1": "a=1",
	} {
		require.Equal(t, want, harmless(text))
		require.Equal(t, text, plain(want))
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`['=+\-@\t]{0,4}.{0,6}`).Draw(t, "text")
		cell := harmless(text)
		if cell != "" {
			require.NotContains(t, formula, cell[:1])
		}
		require.Equal(t, text, plain(cell))
	})
}

func TestReportsAreCSV(t *testing.T) {
	var report bytes.Buffer
	require.NoError(t, writeProblems(&report, []*problem{{line: 2, device: "=d,\"", code: codeID, message: "device id \"=d\" is not valid"}, {device: "e", code: codeMissing, message: "gone"}}))
	rows, err := csv.NewReader(&report).ReadAll()
	require.NoError(t, err)
	require.Equal(t, [][]string{{"2", "'=d,\"", codeID, "device id \"=d\" is not valid"}, {"", "e", codeMissing, "gone"}}, rows)
}

// FuzzRows wants whatever bytes to become rows that a device can be made of, each
// id once, or problems that a report can hold.
func FuzzRows(f *testing.F) {
	for _, seed := range []string{
		"\ufeffIOTC_DEVICEID,IOTC_DEVICENAME\r\nd-1,Lobby\r\n", "IOTC_DEVICEID;TAG_a\nd;\"x\ny\"\nd;z\n", "IOTC_DEVICEID\n\"d", "IOTC_DEVICEID,x\n\xff,\xfe\n", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := newRowReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for range len(file) + 1 {
			one, bad, err := r.next()
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				return
			}
			if bad != nil {
				require.True(t, bad.line > 0 && bad.code != "" && bad.message != "", "%+v", bad)
				continue
			}
			require.NoError(t, device.ValidateID(one.id))
			require.False(t, seen[one.id], "%q twice", one.id)
			seen[one.id] = true
		}
		t.Fatal("more rows than bytes")
	})
}
