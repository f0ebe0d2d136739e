package sqltext

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// TenantPrefix begins the name of every tenant's database.
const TenantPrefix = "tenant_"

// Functions that tell of the host, of tables whatever their grants, or wait.
var analystFunctions = names(`hostName fullHostName FQDN uptime tcpPort getServerSetting getMergeTreeSetting getMacro serverUUID
	buildId filesystemAvailable filesystemCapacity filesystemUnreserved authenticatedUser addressToLine addressToLineWithInlines addressToSymbol demangle tid
	logTrace sleep sleepEachRow hasColumnInTable getMaxTableNameLengthForDatabase joinGet joinGetOrNull evalMLMethod modelEvaluate
	getClientHTTPHeader hasThreadFuzzer transactionID transactionLatestSnapshot transactionOldestSnapshot generateSerialID fuzzQuery
	naiveBayesClassifier naiveBayesClassifierWithProb naiveBayesClassifierWithAllProbs isMergeTreePartCoveredBy mergeTreePartInfo
	currentProfiles enabledProfiles defaultProfiles partitionId`)

// Families of such functions.
var analystPrefixes = []string{"__", "dictget", "dicthas", "dictis", "regionto", "regionhierarchy", "regionin"}

// Table functions that read what is elsewhere, or tables by names that may be put
// together; those that compute, as numbers and values, are open. A newer ClickHouse's
// are found by a test.
var closedTableFunctions = names(`azureBlobStorage azureBlobStorageCluster cluster clusterAllReplicas cosn deltaLake deltaLakeAzure
	deltaLakeAzureCluster deltaLakeCluster deltaLakeLocal deltaLakeS3 deltaLakeS3Cluster dictionary fileCluster filesystem fuzzJSON gcs hdfs
	hdfsCluster hudi hudiCluster iceberg icebergAzure icebergAzureCluster icebergCluster icebergHDFS icebergHDFSCluster icebergLocal
	icebergLocalCluster icebergS3 icebergS3Cluster input jdbc loop merge mergeTreeAnalyzeIndexes mergeTreeAnalyzeIndexesUUID mergeTreeIndex
	mergeTreeProjection mergeTreeTextIndex mongodb mysql odbc oss paimon paimonAzure paimonAzureCluster paimonCluster paimonHDFS
	paimonHDFSCluster paimonLocal paimonS3 paimonS3Cluster postgresql prometheusQuery prometheusQueryRange redis remote remoteSecure
	s3 s3Cluster sqlite timeSeriesData timeSeriesMetrics timeSeriesSamples timeSeriesSelector timeSeriesTags url urlCluster viewExplain
	viewIfPermitted ytsaurus ytsaurusCluster hive urlWithHeaders postgreSQLCluster meilisearch`)

// Tables of ClickHouse's own that hold nothing of anybody, and those in which
// row filters leave the tenant's own.
var systemTables = names(`one numbers numbers_mt zeros zeros_mt primes functions aggregate_function_combinators data_type_families formats
	time_zones collations keywords table_functions licenses unicode settings databases tables columns`)

var beginnings = names("SELECT WITH EXPLAIN SHOW DESCRIBE DESC EXISTS")

// What may follow these: SHOW TABLES, EXPLAIN PLAN.
var shown = names("TABLES FULL DATABASES COLUMNS FIELDS CREATE FUNCTIONS SETTINGS")
var unexplained = names("ESTIMATE TABLE CURRENT")

// Analyst is the error of a statement that an analyst may not send, who works in
// the tenant's database of that name.
func Analyst(statement, database string) error {
	if err := Outside(statement); err != nil {
		return err
	}
	if err := plain([]byte(statement)); err != nil {
		return err
	}
	s := Scanner{Source: []byte(statement)}
	if err := begins(s); err != nil {
		return err
	}
	for w := (window{}); ; {
		w.before, w.last, w.token = w.last, w.token, s.Next()
		w.next = s.Peek()
		if w.token.Kind == End {
			return nil
		}
		if w.token.Is(";") && w.next.Kind != End && !w.next.Is(";") {
			return errors.New("there are several statements: send one at a time")
		}
		if err := w.analyst(database); err != nil {
			return err
		}
	}
}

func begins(s Scanner) error {
	first := s.Next()
	for first.Is("(") {
		first = s.Next()
	}
	name, _ := first.name()
	if first.Kind != Word || !beginnings[name] {
		return errors.New("only questions are allowed here: begin with SELECT, WITH, EXPLAIN, SHOW, DESCRIBE or EXISTS")
	}
	second, _ := s.Peek().name()
	if name == "show" && !shown[second] {
		return errors.New("of SHOW, only SHOW TABLES, DATABASES, COLUMNS, CREATE, FUNCTIONS and SETTINGS are allowed here")
	}
	if name == "explain" && unexplained[second] {
		return errors.New("of EXPLAIN, only EXPLAIN PLAN, PIPELINE, SYNTAX, AST and QUERY TREE are allowed here")
	}
	return nil
}

// plain refuses what two lexers could read in two ways: nobody writes it by need.
func plain(statement []byte) error {
	s := Scanner{Source: statement}
	for from := 0; ; {
		token := s.Next()
		between := statement[from:token.From]
		switch {
		case bytes.IndexByte(between, 0) >= 0:
			return errors.New("the statement has a zero byte")
		case bytes.Count(between, []byte("/*")) != bytes.Count(between, []byte("*/")) || bytes.Contains(between, []byte("//")) || bytes.Contains(between, []byte("#")):
			return errors.New("write comments as -- or /* */, without any of //, #, /* and */ within")
		case nested(between):
			return errors.New("comments cannot be nested here")
		case token.Kind == End:
			return nil
		case token.Kind == Sign && token.Text[0] == '\\', token.Kind == Quoted && bytes.IndexByte(token.Text, '\\') >= 0:
			return errors.New("names cannot have backslashes here")
		case (token.Kind == Quoted || token.Kind == Literal) && !bytes.ContainsRune([]byte("'\"`"), rune(token.Text[0])):
			return errors.New("write texts as 'text' and names as \"name\"")
		}
		from = s.At
	}
}

func nested(between []byte) bool {
	open := bytes.Index(between, []byte("/*"))
	if open < 0 {
		return false
	}
	rest := between[open+2:]
	closing := bytes.Index(rest, []byte("*/"))
	return closing < 0 || bytes.Contains(rest[:closing], []byte("/*")) || nested(rest[closing+2:])
}

func (w window) analyst(database string) error {
	if w.token.Kind == Literal {
		return foreign(w.token.Unquoted(), database)
	}
	name, ok := w.token.name()
	if !ok {
		return nil
	}
	switch {
	case w.token.Is("OUTFILE") && w.last.Is("INTO"):
		return errors.New("INTO OUTFILE is not available here: the answer's body has the rows")
	case (analystFunctions[name] || hasPrefix(name, analystPrefixes)) && w.calls(), closedTableFunctions[name] && w.next.Is("("):
		return fmt.Errorf("%s is not available to analysts. If it is a column, write it behind its table, as t.%s", name, name)
	case name == "identifier" && w.last.Is(":"):
		return errors.New("parameters of type Identifier are not available here: write the name into the statement")
	case name == "information_schema":
		return errors.New("information_schema is not available here: SHOW TABLES and DESCRIBE tell what there is")
	}
	if w.of("system") && !systemTables[name] {
		return fmt.Errorf("system.%s is not available to analysts", name)
	}
	return foreign(w.token.written(), database)
}

func hasPrefix(name string, prefixes []string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// foreign refuses the name of another tenant's database, which may be there or not.
func foreign(name, database string) error {
	of, _, _ := strings.Cut(name, ".")
	if strings.HasPrefix(strings.ToLower(of), TenantPrefix) && of != database {
		return fmt.Errorf("there is no database %s for you: yours is %s", of, database)
	}
	return nil
}
