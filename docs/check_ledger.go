// Check_ledger checks an exported security log of Keystead without any code of Keystead.
//
//	go run check_ledger.go [-vkey KEY]... [-old NOTE] BUNDLE
//	go run check_ledger.go -vkey KEY -entry LEAF PROOF.tlog-proof
//
// BUNDLE is the zip file, or the folder that it was unpacked to. Signatures, hashes and trees are the Go project's own
// (golang.org/x/mod/sumdb/note and tlog, which guard Go's module downloads); this file only reads the bundle and compares.
//
// It exits with 0 where everything fits, 1 where the log was tampered with, 2 for what is no bundle, 3 without a
// signature by a trusted key, 4 where the log does not continue the older checkpoint. (`go run` makes 1 of them all.)
package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tampered     = 1
	malformed    = 2
	untrusted    = 3
	inconsistent = 4
	longestLine  = 16384
)

// A failure is what is wrong, and the exit status that says so.
type failure struct {
	status int
	words  string
}

func (f failure) Error() string { return f.words }

func fail(status int, words string, values ...any) error {
	return failure{status, fmt.Sprintf(words, values...)}
}

type texts []string

func (t *texts) String() string         { return strings.Join(*t, " ") }
func (t *texts) Set(value string) error { *t = append(*t, value); return nil }

func main() {
	var vkeys texts
	flag.Var(&vkeys, "vkey", "trust this verifier key alone; may be repeated. Default: those in the bundle")
	old := flag.String("old", "", "an older checkpoint of the same log, which this one must continue")
	leaf := flag.String("entry", "", "check a proof file: the file with this entry's bytes, without a final newline")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(malformed)
	}
	check := func() (string, error) { return checkBundle(flag.Arg(0), vkeys, *old) }
	if *leaf != "" {
		check = func() (string, error) { return checkProof(flag.Arg(0), vkeys, *leaf) }
	}
	said, err := check()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status := failure{status: malformed}
		errors.As(err, &status)
		os.Exit(status.status)
	}
	fmt.Print(said)
}

func checkBundle(path string, vkeys texts, old string) (string, error) {
	files, err := open(path)
	if err != nil {
		return "", fail(malformed, "no bundle: %v", err)
	}
	var said strings.Builder
	if len(vkeys) == 0 {
		if vkeys, err = keysOf(files); err != nil {
			return "", err
		}
		fmt.Fprintln(&said, "trusted: the keys in the bundle. Compare them with those you got elsewhere:")
		for _, each := range vkeys {
			fmt.Fprintln(&said, " ", each)
		}
	}
	signed, err := fs.ReadFile(files, "checkpoint")
	if err != nil {
		return "", fail(malformed, "no bundle: %v", err)
	}
	origin, tree, err := openCheckpoint(signed, vkeys)
	if err != nil {
		return "", err
	}
	log := &log{origin: origin, tree: tree}
	if err := log.read(files); err != nil {
		return "", err
	}
	olds, err := olderNotes(files, old)
	if err != nil {
		return "", err
	}
	for _, each := range olds {
		if err := log.continues(each, vkeys); err != nil {
			return "", err
		}
	}
	fmt.Fprintf(&said, "good: %s, %d entries, root %s\n", origin, tree.N, tree.Hash)
	return said.String(), nil
}

func open(path string) (fs.FS, error) {
	found, err := os.Stat(path)
	if err == nil && found.IsDir() {
		return os.DirFS(path), nil
	}
	return zip.OpenReader(path)
}

func keysOf(files fs.FS) (texts, error) {
	content, err := fs.ReadFile(files, "vkeys")
	if err != nil {
		return nil, fail(malformed, "no bundle: %v", err)
	}
	return strings.Fields(string(content)), nil
}

func olderNotes(files fs.FS, path string) ([][]byte, error) {
	var found [][]byte
	if content, err := fs.ReadFile(files, "old-checkpoint"); err == nil {
		found = append(found, content)
	}
	if path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fail(malformed, "no older checkpoint: %v", err)
		}
		found = append(found, content)
	}
	return found, nil
}

// openCheckpoint returns the log that a note speaks of, with its size and root, where a trusted key of that log signed.
func openCheckpoint(signed []byte, vkeys texts) (string, tlog.Tree, error) {
	var known []note.Verifier
	for _, each := range vkeys {
		verifier, err := note.NewVerifier(each)
		if err != nil {
			return "", tlog.Tree{}, fail(malformed, "no verifier key: %s: %v", each, err)
		}
		known = append(known, verifier)
	}
	opened, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		var unknown *note.UnverifiedNoteError
		var wrong *note.InvalidSignatureError
		if errors.As(err, &unknown) || errors.As(err, &wrong) {
			return "", tlog.Tree{}, fail(untrusted, "checkpoint: %v", err)
		}
		return "", tlog.Tree{}, fail(malformed, "checkpoint: %v", err)
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: not the three lines origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: its size is no number of entries")
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: its root is no hash")
	}
	for _, each := range opened.Sigs {
		if each.Name == lines[0] {
			return lines[0], tlog.Tree{N: size, Hash: root}, nil
		}
	}
	return "", tlog.Tree{}, fail(untrusted, "checkpoint: no signature is by a key of the log %s", lines[0])
}

func parseHash(text string) (tlog.Hash, error) {
	hash, err := tlog.ParseHash(text)
	if err == nil && hash.String() != text {
		err = errors.New("a hash has one spelling")
	}
	return hash, err
}

// An entry is what its line says of itself.
type entry struct {
	I      int64             `json:"i"`
	Log    string            `json:"log"`
	Prev   string            `json:"prev"`
	T      string            `json:"t"`
	Act    string            `json:"act"`
	Sealed map[string]string `json:"sealed"`
	erased erasure
	vkey   string
	hash   tlog.Hash
}

// An erasure names every one of the fields of every one of the entries; of another epoch's log where it says so.
type erasure struct {
	Epoch   int64    `json:"epoch"`
	Entries []int64  `json:"entries"`
	Fields  []string `json:"fields"`
}

// An opening is the value of a sealed field: personal data, and the salt that makes it fit its commitment.
type opening struct {
	Field string `json:"field"`
	I     int64  `json:"i"`
	Salt  []byte `json:"salt"`
	Value string `json:"value"`
}

type place struct {
	index int64
	field string
}

// A log is what was read of it so far.
type log struct {
	origin  string
	tree    tlog.Tree
	size    int64
	last    *entry
	hashes  []tlog.Hash // as tlog stores them, all levels
	missing map[place]bool
	sealed  *lines
	next    *opening
}

// fault names an entry that is not as it was written.
func (l *log) fault(index int64, kind, words string, values ...any) error {
	return fail(tampered, "epoch %d, entry %d: %s: %s", epochOf(l.origin), index, kind, fmt.Sprintf(words, values...))
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for k, index := range indexes {
		found[k] = l.hashes[index]
	}
	return found, nil
}

// read goes through every entry, then compares the root with the signed one.
func (l *log) read(files fs.FS) error {
	entries, err := openLines(files, "entries.jsonl")
	if err != nil {
		return err
	}
	if l.sealed, err = openLines(files, "sealed.jsonl"); err != nil {
		return err
	}
	l.missing = map[place]bool{}
	if err := l.step(); err != nil {
		return err
	}
	line, err := entries.next()
	for err == nil && line != nil && l.size < l.tree.N {
		var following []byte
		if following, err = entries.next(); err == nil {
			err = l.add(line, following)
		}
		line = following
	}
	switch {
	case err != nil:
		return err
	case line != nil:
		return l.behind(line)
	case l.size < l.tree.N:
		return l.fault(l.size, "dropped", "the checkpoint counts %d entries, there are %d", l.tree.N, l.size)
	}
	return l.end()
}

func (l *log) end() error {
	root, err := tlog.TreeHash(l.tree.N, l)
	if err != nil {
		return err
	}
	if root != l.tree.Hash {
		const words = "the root over all entries is not the signed one: the last was altered, or all from some entry on"
		return l.fault(l.size-1, "altered", words)
	}
	if l.next != nil {
		return l.fault(l.next.I, "inserted", "an opening is of nothing that was sealed")
	}
	first := place{index: l.size}
	for each := range l.missing {
		if each.index < first.index || each.index == first.index && each.field < first.field {
			first = each
		}
	}
	if len(l.missing) > 0 {
		return l.fault(first.index, "dropped", "the opening of %s is missing", first.field)
	}
	return nil
}

// add checks one more entry. following only helps to say what happened, where something did.
func (l *log) add(line, following []byte) error {
	read, err := parse(line)
	if err != nil {
		return l.fault(l.size, "altered", "its bytes are no entry (%v)", err)
	}
	if read.I != l.size {
		return l.misplaced(read, following)
	}
	if read.Log != l.origin {
		return l.fault(l.size, "altered", "it names another log")
	}
	if read.Prev != l.expected() {
		return l.unchained(read, following)
	}
	if l.last != nil && read.T < l.last.T {
		return l.fault(l.size, "altered", "it is older than the entry before it")
	}
	if opens := beginning(l.origin); (read.I == 0) != (read.Act == opens) {
		return l.fault(l.size, "altered", "%s is the first entry and no other", opens)
	}
	if read.Act == "ledger.opened" && !isKeyOf(l.origin, read.vkey) {
		return l.fault(l.size, "altered", "it carries no verifier key of this log")
	}
	if err := l.unseal(read); err != nil {
		return err
	}
	l.last, l.size = read, l.size+1
	return l.store(read.I, read.hash)
}

func (l *log) store(index int64, hash tlog.Hash) error {
	added, err := tlog.StoredHashesForRecordHash(index, hash, l)
	l.hashes = append(l.hashes, added...)
	return err
}

// expected is what the next entry must say in prev.
func (l *log) expected() string {
	if l.last == nil {
		empty := tlog.Hash(sha256.Sum256(nil))
		return empty.String()
	}
	return l.last.hash.String()
}

// misplaced says why the entry at an index says that it is another one.
func (l *log) misplaced(read *entry, following []byte) error {
	after, _ := parse(following)
	switch {
	case read.Prev == l.expected():
		return l.fault(l.size, "altered", "it says that it is entry %d", read.I)
	case read.I == l.size-1 && (after == nil || after.I == l.size):
		if after != nil && after.Prev == read.hash.String() {
			return l.fault(l.size-1, "inserted", "two entries claim this place")
		}
		return l.fault(l.size, "inserted", "two entries claim this place")
	case read.I > l.size && (after == nil || after.I == read.I+1):
		return l.fault(l.size, "dropped", "entry %d stands in its place", read.I)
	}
	return l.fault(l.size, "swapped", "entry %d stands in its place", read.I)
}

// behind says why there is more than was signed; the true last entry, moved down, tells of one above it.
func (l *log) behind(line []byte) error {
	index := l.size
	if read, err := parse(line); err == nil && l.size > 0 && l.fits(l.size-1, read.hash) {
		index = read.I
	}
	return l.fault(index, "inserted", "the checkpoint ends at %d entries", l.tree.N)
}

// unchained says which of two neighbours changed: the one for which nothing after it vouches.
func (l *log) unchained(read *entry, following []byte) error {
	after, _ := parse(following)
	if after != nil && after.I == l.size && after.Prev == l.expected() {
		return l.fault(l.size, "inserted", "it does not refer to the entry before it")
	}
	vouched := after != nil && after.Prev == read.hash.String()
	if following == nil {
		vouched = l.wouldFit(read)
	}
	if vouched && l.last != nil {
		return l.fault(l.size-1, "altered", "the next entry refers to other bytes than these")
	}
	return l.fault(l.size, "altered", "it does not refer to the entry before it")
}

// wouldFit tells whether the root is the signed one where the entry before has the hash that the last refers to.
func (l *log) wouldFit(read *entry) bool {
	prev, err := parseHash(read.Prev)
	return err == nil && l.last != nil && l.fits(l.size-1, prev, read.hash)
}

// fits tells whether the root is the signed one with these hashes from an index on. It spoils the log.
func (l *log) fits(index int64, hashes ...tlog.Hash) bool {
	l.hashes = l.hashes[:tlog.StoredHashCount(index)]
	for k, hash := range hashes {
		if l.store(index+int64(k), hash) != nil {
			return false
		}
	}
	size := index + int64(len(hashes))
	root, err := tlog.TreeHash(size, l)
	return err == nil && size == l.tree.N && root == l.tree.Hash
}

// unseal compares an entry's commitments with their openings, and takes note of what is not there.
func (l *log) unseal(read *entry) error {
	for _, index := range read.erased.Entries {
		for _, field := range read.erased.Fields {
			delete(l.missing, place{index, field})
		}
	}
	var names []string
	for name := range read.Sealed {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		found := l.next
		if found == nil || found.I != read.I || found.Field != name {
			l.missing[place{read.I, name}] = true
			continue
		}
		mac := hmac.New(sha256.New, found.Salt)
		mac.Write([]byte(found.Field + "\x00" + found.Value))
		if base64.StdEncoding.EncodeToString(mac.Sum(nil)) != read.Sealed[name] {
			return l.fault(read.I, "altered", "the opening of %s is not what was sealed", name)
		}
		if err := l.step(); err != nil {
			return err
		}
	}
	if l.next != nil && l.next.I <= read.I {
		return l.fault(l.next.I, "inserted", "an opening is of nothing that was sealed")
	}
	return nil
}

func (l *log) step() error {
	line, err := l.sealed.next()
	l.next = nil
	if err != nil || line == nil {
		return err
	}
	l.next = &opening{}
	if json.Unmarshal(line, l.next) != nil {
		return fail(malformed, "sealed.jsonl: a line is no opening")
	}
	return nil
}

// continues checks that an older checkpoint is the root of the same entries' beginning.
func (l *log) continues(signed []byte, vkeys texts) error {
	origin, older, err := openCheckpoint(signed, vkeys)
	if err != nil {
		return fmt.Errorf("older checkpoint: %w", err)
	}
	if origin != l.origin || older.N > l.tree.N {
		return fail(inconsistent, "the older checkpoint is of %s, %d entries: not of this log, or newer", origin, older.N)
	}
	root, err := tlog.TreeHash(older.N, l)
	if err != nil {
		return err
	}
	if root != older.Hash {
		return fail(inconsistent, "the first %d entries are not those that the older checkpoint counted", older.N)
	}
	return nil
}

// parse reads an entry, whose bytes must be the one spelling of what they say (RFC 8785).
func parse(line []byte) (*entry, error) {
	if line == nil {
		return nil, io.EOF
	}
	if len(line) > longestLine {
		return nil, errors.New("longer than 16,384 bytes")
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		return nil, errors.New("not JSON")
	}
	if written, err := canonical(nil, value); err != nil || !bytes.Equal(written, line) {
		return nil, errors.New("not in canonical form")
	}
	read := &entry{hash: tlog.RecordHash(line)}
	if err := json.Unmarshal(line, read); err != nil {
		return nil, errors.New("a member is of another type")
	}
	switch read.Act {
	case "ledger.opened":
		var told struct {
			Data struct {
				Vkey string `json:"vkey"`
			} `json:"data"`
		}
		_ = json.Unmarshal(line, &told)
		read.vkey = told.Data.Vkey
	case "ledger.erasure":
		var told struct {
			Data erasure `json:"data"`
		}
		if json.Unmarshal(line, &told) == nil && (told.Data.Epoch == 0 || told.Data.Epoch == epochOf(read.Log)) {
			read.erased = told.Data
		}
	}
	return read, nil
}

func isKeyOf(origin, vkey string) bool {
	verifier, err := note.NewVerifier(vkey)
	return err == nil && verifier.Name() == origin
}

// beginning is the act of a log's first entry.
func beginning(origin string) string {
	if epochOf(origin) == 1 {
		return "ledger.opened"
	}
	return "ledger.reopened"
}

// epochOf reads the end of a log's name, host/ledger/organization[/epoch].
func epochOf(origin string) int64 {
	parts := strings.Split(origin, "/")
	if epoch, err := strconv.ParseInt(parts[len(parts)-1], 10, 64); err == nil && len(parts) == 4 {
		return epoch
	}
	return 1
}

var integer = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,15})$`)

func canonical(to []byte, value any) ([]byte, error) {
	var err error
	switch value := value.(type) {
	case map[string]any:
		var names []string
		for name := range value {
			names = append(names, name)
		}
		sort.Strings(names)
		to = append(to, '{')
		for k, name := range names {
			if k > 0 {
				to = append(to, ',')
			}
			to = append(text(to, name), ':')
			if to, err = canonical(to, value[name]); err != nil {
				return nil, err
			}
		}
		return append(to, '}'), nil
	case []any:
		to = append(to, '[')
		for k, each := range value {
			if k > 0 {
				to = append(to, ',')
			}
			if to, err = canonical(to, each); err != nil {
				return nil, err
			}
		}
		return append(to, ']'), nil
	case string:
		return text(to, value), nil
	case json.Number:
		if !integer.MatchString(value.String()) {
			return nil, errors.New("no integer")
		}
		return append(to, value...), nil
	case bool:
		return strconv.AppendBool(to, value), nil
	}
	return append(to, "null"...), nil
}

var escapes = map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}

func text(to []byte, value string) []byte {
	to = append(to, '"')
	for _, each := range value {
		if short, found := escapes[each]; found {
			to = append(to, short...)
		} else if each < 0x20 {
			to = append(to, fmt.Sprintf(`\u%04x`, each)...)
		} else {
			to = append(to, string(each)...)
		}
	}
	return append(to, '"')
}

// lines reads a member line by line; each ends in a newline.
type lines struct {
	name   string
	reader *bufio.Reader
}

func openLines(files fs.FS, name string) (*lines, error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, fail(malformed, "no bundle: %v", err)
	}
	return &lines{name, bufio.NewReaderSize(file, 1<<16)}, nil
}

// next returns a line without its newline, nil at the end.
func (l *lines) next() ([]byte, error) {
	line, err := l.reader.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, nil
	case err != nil:
		return nil, fail(malformed, "%s: a line that does not end: %v", l.name, err)
	}
	return append([]byte{}, line[:len(line)-1]...), nil
}

// checkProof checks that one entry is in the log that the note of a proof file signs.
func checkProof(path string, vkeys texts, leafPath string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fail(malformed, "no proof: %v", err)
	}
	leaf, err := os.ReadFile(leafPath)
	if err != nil {
		return "", fail(malformed, "no entry: %v", err)
	}
	head, signed, found := strings.Cut(string(content), "\n\n")
	rows := strings.Split(head, "\n")
	if !found || len(rows) < 2 || rows[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(rows[1], "index ") {
		return "", fail(malformed, "no proof file")
	}
	index, err := strconv.ParseInt(rows[1][len("index "):], 10, 64)
	if err != nil || fmt.Sprintf("index %d", index) != rows[1] {
		return "", fail(malformed, "no proof file: its index is no number")
	}
	var proof tlog.RecordProof
	for _, row := range rows[2:] {
		hash, err := parseHash(row)
		if err != nil {
			return "", fail(malformed, "no proof file: a line is no hash")
		}
		proof = append(proof, hash)
	}
	origin, tree, err := openCheckpoint([]byte(signed), vkeys)
	if err != nil {
		return "", err
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(leaf)); err != nil {
		return "", fail(tampered, "entry %d is not in the log as it was signed: %v", index, err)
	}
	return fmt.Sprintf("good: entry %d of %s, as signed at %d entries\n", index, origin, tree.N), nil
}
