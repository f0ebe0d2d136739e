package chdb

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// insertUntilKilledDir makes this test binary a process that inserts into the
// directory until it is killed; see TestMain.
const insertUntilKilledDir = "FLEETLOG_TEST_CHDB_INSERT"

const blockRows = 1000

func insertBlock(t testing.TB, url string, block int) reply {
	t.Helper()
	var rows strings.Builder
	for i := range blockRows {
		fmt.Fprintf(&rows, "%d\t%d\n", block, i)
	}
	return post(t, url, call{query: "INSERT INTO blocks FORMAT TabSeparated", body: rows.String(),
		params: map[string]string{"insert_deduplication_token": "block-" + strconv.Itoa(block)}})
}

const createBlocks = `CREATE TABLE IF NOT EXISTS blocks (block Int64, row Int64) ENGINE = MergeTree ORDER BY (block, row)
	SETTINGS non_replicated_deduplication_window = 10000`

// insertUntilKilled prints each block's number when it was acknowledged.
func insertUntilKilled(dir string) {
	engine, err := Open(Config{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	server := httptest.NewServer(engine.Handler())
	t := &testing.B{}
	for block := 0; ; block++ {
		if got := insertBlock(t, server.URL, block); got.status != http.StatusOK {
			fmt.Println("error", got.body)
			os.Exit(1)
		}
		fmt.Println(block)
	}
}

func TestKillLosesNothingAcknowledgedAndDoublesNothing(t *testing.T) {
	for round := range 5 {
		t.Run(strconv.Itoa(round), func(t *testing.T) {
			dir := t.TempDir()
			t.Run("create", func(t *testing.T) {
				_, url := startEngineIn(t, dir)
				ask(t, url, createBlocks)
			})
			acknowledged := insertAndKill(t, dir, 20+7*round)

			_, url := startEngineIn(t, dir)
			for block := 0; block <= acknowledged; block++ {
				require.Equal(t, fmt.Sprintf("%d\t%d\n", blockRows, blockRows),
					ask(t, url, fmt.Sprintf("SELECT count(), uniqExact(row) FROM blocks WHERE block = %d", block)))
			}
			for block := 0; block <= acknowledged+1; block++ {
				require.Equal(t, http.StatusOK, insertBlock(t, url, block).status)
			}
			require.Equal(t, fmt.Sprintf("%d\t%d\n", (acknowledged+2)*blockRows, (acknowledged+2)*blockRows),
				ask(t, url, "SELECT count(), uniqExact(block, row) FROM blocks"))
		})
	}
}

// insertAndKill lets another process insert and kills it when a block was
// acknowledged. It returns the last block that was.
func insertAndKill(t *testing.T, dir string, block int) int {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), insertUntilKilledDir+"="+dir)
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	acknowledged := -1
	for lines := bufio.NewScanner(output); lines.Scan(); {
		acknowledged, err = strconv.Atoi(lines.Text())
		if err != nil || acknowledged == block {
			require.NoError(t, child.Process.Kill())
		}
		require.NoError(t, err, lines.Text())
	}
	require.Error(t, child.Wait(), "killed")
	require.GreaterOrEqual(t, acknowledged, block)
	return acknowledged
}

// The state a kill between the deduplication log's record and the part's
// rename leaves behind.
func TestTokenOfAPartNeverPutInPlaceIsReleased(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, table string)
	}{
		{"killed before the rename", func(*testing.T, string) {}},
		{"and the log had just been rotated", func(t *testing.T, table string) {
			require.NoError(t, os.WriteFile(filepath.Join(table, "deduplication_logs", "deduplication_log_2.txt"), nil, 0o600))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			engine, err := Open(Config{Dir: dir})
			require.NoError(t, err)
			server := httptest.NewServer(engine.Handler())
			ask(t, server.URL, createBlocks)
			insertBlock(t, server.URL, 1)
			insertBlock(t, server.URL, 2)
			server.Close()
			require.NoError(t, engine.Close())

			parts, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "all_2_2_0"))
			require.NoError(t, err)
			require.Len(t, parts, 1)
			table := filepath.Dir(parts[0])
			require.NoError(t, os.Rename(parts[0], filepath.Join(table, "tmp_insert_all_2_2_0")))
			test.damage(t, table)

			_, url := startEngineIn(t, dir)
			require.Equal(t, "1000\n", ask(t, url, "SELECT count() FROM blocks"))
			for range 2 {
				insertBlock(t, url, 1)
				insertBlock(t, url, 2)
				require.Equal(t, "2000\n", ask(t, url, "SELECT count() FROM blocks"))
			}
		})
	}
}

func TestRepairOfDeduplicationLogs(t *testing.T) {
	for _, test := range []struct {
		name, log string
		parts     []string
		want      string
	}{
		{"nothing to do", "1\tall_1_1_0\ta\n", []string{"all_1_1_0"}, "1\tall_1_1_0\ta\n"},
		{"merged", "1\tall_2_2_0\ta\n", []string{"all_1_4_1"}, "1\tall_2_2_0\ta\n"},
		{"mutated", "1\tall_2_2_0\ta\n", []string{"all_2_2_0_7"}, "1\tall_2_2_0\ta\n"},
		{"missing", "1\tall_1_1_0\ta\n", []string{"tmp_insert_all_1_1_0"}, "1\tall_1_1_0\ta\n2\tall_1_1_0\ta\n"},
		{"missing from its partition", "1\t202601_1_1_0\ta\n", []string{"202602_1_1_0"}, "1\t202601_1_1_0\ta\n2\t202601_1_1_0\ta\n"},
		{"missing with two tokens", "1\tall_1_1_0\ta\n1\tall_2_2_0\tb\n1\tall_2_2_0\tc\n", []string{"all_1_1_0"},
			"1\tall_1_1_0\ta\n1\tall_2_2_0\tb\n1\tall_2_2_0\tc\n2\tall_2_2_0\tc\n2\tall_2_2_0\tb\n"},
		{"dropped", "1\tall_1_1_0\ta\n2\tall_1_1_0\ta\n", nil, "1\tall_1_1_0\ta\n2\tall_1_1_0\ta\n"},
		{"cut off by a power failure", "1\tall_1_1_0\ta\n1\tall_2", []string{"all_1_1_0"}, "1\tall_1_1_0\ta\n"},
		{"not a part", "1\tsomething\ta\n", nil, "1\tsomething\ta\n"},
		{"not a record", "hello\n", nil, "hello\n"},
		{"empty", "", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			table := filepath.Join(dir, "store", "abc", "abcdef")
			logs := filepath.Join(table, "deduplication_logs")
			require.NoError(t, os.MkdirAll(logs, 0o700))
			for _, part := range test.parts {
				require.NoError(t, os.Mkdir(filepath.Join(table, part), 0o700))
			}
			file := filepath.Join(logs, "deduplication_log_1.txt")
			require.NoError(t, os.WriteFile(file, []byte(test.log), 0o600))
			require.NoError(t, repairDeduplicationLogs(dir))
			got, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, test.want, string(got))
		})
	}
}

func TestDirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	startEngineIn(t, dir)
	_, err := Open(Config{Dir: dir})
	require.ErrorContains(t, err, "another process has it open")
}
