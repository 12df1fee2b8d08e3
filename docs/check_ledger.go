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
	"encoding/binary"
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
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tampered     = 1
	malformed    = 2
	untrusted    = 3
	inconsistent = 4
	longestLine  = 16384
	longestText  = 2048
	deepest      = 4
	most         = 1<<53 - 1
	mostKeys     = 100
	longestProof = 65536
)

var (
	integer = regexp.MustCompile(`^(0|-?[1-9][0-9]{0,15})$`)
	member  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)
	act     = regexp.MustCompile(`^[a-z]+(\.[a-z_]+)+$`)
	actor   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	moment  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$`)
	logName = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*/ledger/org_[a-z0-9_]+(/([2-9]|[1-9][0-9]+))?$`)
	empty   = tlog.Hash(sha256.Sum256(nil))
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
	olds, err := olderCheckpoints(files, old, origin, vkeys)
	if err != nil {
		return "", err
	}
	if err := log.read(files); err != nil {
		return "", err
	}
	for _, each := range olds {
		if err := log.continues(each); err != nil {
			return "", err
		}
	}
	if err := log.judgeOpenings(); err != nil {
		return "", err
	}
	fmt.Fprintf(&said, "good: %s, %d entries, root %s\n", origin, tree.N, tree.Hash)
	return said.String(), nil
}

func open(path string) (fs.FS, error) {
	found, err := os.Stat(path)
	if err == nil && found.IsDir() {
		return os.DirFS(path), nil
	}
	files, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{"vkeys": false, "checkpoint": false, "old-checkpoint": false, "entries.jsonl": false, "sealed.jsonl": false}
	for _, each := range files.File {
		if twice, known := seen[each.Name]; twice || !known {
			return nil, errors.New("it holds a member twice, or what is none")
		}
		seen[each.Name] = true
	}
	return files, nil
}

func keysOf(files fs.FS) (texts, error) {
	content, err := fs.ReadFile(files, "vkeys")
	if err != nil {
		return nil, fail(malformed, "no bundle: %v", err)
	}
	keys := strings.Split(string(content), "\n")
	if len(keys) < 2 || len(keys) > mostKeys+1 || keys[len(keys)-1] != "" {
		return nil, fail(malformed, "vkeys: not a key a line, %d at most", mostKeys)
	}
	return keys[:len(keys)-1], nil
}

// olderCheckpoints returns the one in the bundle and the one in a file, where there are such.
func olderCheckpoints(files fs.FS, path, origin string, vkeys texts) ([]tlog.Tree, error) {
	var notes [][]byte
	if content, err := fs.ReadFile(files, "old-checkpoint"); err == nil {
		notes = append(notes, content)
	}
	if path != "" {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fail(malformed, "no older checkpoint: %v", err)
		}
		notes = append(notes, content)
	}
	var found []tlog.Tree
	for _, each := range notes {
		other, tree, err := openCheckpoint(each, vkeys)
		if err != nil {
			return nil, fmt.Errorf("older checkpoint: %w", err)
		}
		if other != origin {
			return nil, fail(inconsistent, "the older checkpoint is of another log, %s", other)
		}
		found = append(found, tree)
	}
	return found, nil
}

// verifiers reads verifier keys, each of which has one spelling.
func verifiers(vkeys texts) ([]note.Verifier, error) {
	known, ids := map[string]bool{}, map[string]bool{}
	var found []note.Verifier
	for _, each := range vkeys {
		if known[each] {
			continue
		}
		verifier, err := note.NewVerifier(each)
		if err != nil || !isOneSpelling(each, verifier.Name()) {
			return nil, fail(malformed, "no verifier key: %s", each)
		}
		id := fmt.Sprintf("%s+%08x", verifier.Name(), verifier.KeyHash())
		if ids[id] {
			return nil, fail(malformed, "two verifier keys have the id %s", id)
		}
		known[each], ids[id] = true, true
		found = append(found, verifier)
	}
	return found, nil
}

func isOneSpelling(vkey, name string) bool {
	key, err := base64.StdEncoding.DecodeString(vkey[len(name)+len("+01234567+"):])
	if err != nil || len(key) == 0 {
		return false
	}
	written, err := note.NewEd25519VerifierKey(name, key[1:])
	return err == nil && written == vkey
}

// checkSignatures is stricter than note.Open, which looks at a key's first signature alone, and reads base64 kindly.
func checkSignatures(signed []byte, known []note.Verifier) error {
	end := bytes.LastIndex(signed, []byte("\n\n"))
	for _, line := range strings.Split(strings.TrimSuffix(string(signed[end+2:]), "\n"), "\n") {
		name, encoded, _ := strings.Cut(strings.TrimPrefix(line, "\u2014 "), " ")
		signature, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || base64.StdEncoding.EncodeToString(signature) != encoded {
			return fail(malformed, "checkpoint: a signature has one spelling")
		}
		for _, each := range known {
			if each.Name() == name && each.KeyHash() == binary.BigEndian.Uint32(signature) &&
				!each.Verify(signed[:end+1], signature[4:]) {
				return fail(untrusted, "checkpoint: a signature claims to be by %s and is not", name)
			}
		}
	}
	return nil
}

// openCheckpoint returns the log that a note speaks of, with its size and root, where a trusted key of that log signed.
func openCheckpoint(signed []byte, vkeys texts) (string, tlog.Tree, error) {
	known, err := verifiers(vkeys)
	if err != nil {
		return "", tlog.Tree{}, err
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
	if err := checkSignatures(signed, known); err != nil {
		return "", tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: not the three lines origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || size > most+1 || strconv.FormatInt(size, 10) != lines[1] {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: its size is no number of entries")
	}
	root, err := parseHash(lines[2])
	if err != nil || size == 0 && root != empty {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: its root is no hash of such a log")
	}
	if !isLog(lines[0]) {
		return "", tlog.Tree{}, fail(malformed, "checkpoint: its origin is no log's name")
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
	I      int64
	Log    string
	Prev   string
	T      string
	Act    string
	Sealed map[string]string
	data   map[string]any
	hash   tlog.Hash
}

// An opening is the value of a sealed field: personal data, and the salt that makes it fit its commitment.
type opening struct {
	I     int64
	Field string
	Salt  string
	Value string
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
	before  place // the opening before that
	unfit   error // the first opening that is not what was sealed, and its entry: told where all entries fit
	unfitAt int64
}

// fault names an entry that is not as it was written.
func (l *log) fault(index int64, kind, words string, values ...any) error {
	return fail(tampered, "epoch %s, entry %d: %s: %s", epochOf(l.origin), index, kind, fmt.Sprintf(words, values...))
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
		following, trouble := entries.next()
		if trouble != nil {
			following = []byte{}
		}
		if err = l.add(line, following); err == nil {
			err = trouble
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
	root, err := l.root(l.tree.N)
	if err != nil {
		return err
	}
	if root != l.tree.Hash {
		const words = "the root over all entries is not the signed one: the last was altered, or all from some entry on"
		return l.fault(l.size-1, "altered", words)
	}
	return nil
}

func (l *log) root(size int64) (tlog.Hash, error) {
	if size == 0 {
		return empty, nil
	}
	return tlog.TreeHash(size, l)
}

// judgeOpenings names the first opening that is not what was sealed, or that is missing and was not erased.
func (l *log) judgeOpenings() error {
	if l.next != nil {
		l.judge(l.next.I, "inserted", "an opening is of nothing that was sealed")
	}
	first := place{index: l.size}
	for each := range l.missing {
		if each.index < first.index || each.index == first.index && each.field < first.field {
			first = each
		}
	}
	if len(l.missing) > 0 && (l.unfit == nil || first.index < l.unfitAt) {
		return l.fault(first.index, "dropped", "the opening of %s is missing", first.field)
	}
	return l.unfit
}

func (l *log) judge(index int64, kind, words string, values ...any) {
	if l.unfit == nil {
		l.unfit, l.unfitAt = l.fault(index, kind, words, values...), index
	}
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
	if vkey, told := read.data["vkey"].(string); (told && isAboutKeys[read.Act] || read.I == 0) && !isKeyOf(l.origin, vkey) {
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
		index = l.size - 1
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
	for _, each := range l.erased(read) {
		delete(l.missing, each)
	}
	for l.next != nil && l.next.I <= read.I {
		found := l.next
		commitment, sealed := read.Sealed[found.Field]
		if !sealed || found.I != read.I {
			l.judge(found.I, "inserted", "an opening is of nothing that was sealed")
		} else if delete(read.Sealed, found.Field); !found.fits(commitment) {
			l.judge(read.I, "altered", "the opening of %s is not what was sealed", found.Field)
		}
		if err := l.step(); err != nil {
			return err
		}
	}
	for name := range read.Sealed {
		l.missing[place{read.I, name}] = true
	}
	return nil
}

func (o *opening) fits(commitment string) bool {
	salt, err := parseHash(o.Salt)
	mac := hmac.New(sha256.New, salt[:])
	mac.Write([]byte(o.Field + "\x00" + o.Value))
	return err == nil && base64.StdEncoding.EncodeToString(mac.Sum(nil)) == commitment
}

// erased returns what an erasure names: every one of the fields of every one of the entries, where they are of this log.
func (l *log) erased(read *entry) []place {
	if read.Act != "ledger.erasure" {
		return nil
	}
	if epoch, told := read.data["epoch"]; told && epoch != json.Number(epochOf(l.origin)) {
		return nil
	}
	entries, ok := read.data["entries"].([]any)
	fields, fine := read.data["fields"].([]any)
	if !ok || !fine {
		return nil
	}
	var found []place
	for _, entry := range entries {
		for _, field := range fields {
			number, isNumber := entry.(json.Number)
			name, isText := field.(string)
			index, err := number.Int64()
			if !isNumber || !isText || err != nil {
				return nil
			}
			found = append(found, place{index, name})
		}
	}
	return found
}

func (l *log) step() error {
	line, err := l.sealed.next()
	l.next = nil
	if err != nil || line == nil {
		return err
	}
	if l.next, err = parseOpening(line); err != nil {
		return fail(malformed, "sealed.jsonl: a line is no opening")
	}
	this := place{l.next.I, l.next.Field}
	if this.index < l.before.index || this.index == l.before.index && this.field <= l.before.field {
		return fail(malformed, "sealed.jsonl: out of order")
	}
	l.before = this
	return nil
}

// continues checks that an older checkpoint is the root of the same entries' beginning.
func (l *log) continues(older tlog.Tree) error {
	if older.N > l.tree.N {
		return fail(inconsistent, "the older checkpoint is of %d entries, there are %d", older.N, l.tree.N)
	}
	root, err := l.root(older.N)
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
	value, err := object(line)
	if err != nil {
		return nil, err
	}
	if written, err := canonical(nil, value, 1); err != nil || !bytes.Equal(written, line) {
		return nil, errors.New("not in canonical form")
	}
	read, ok := formed(value)
	if !ok {
		return nil, errors.New("not the members of an entry")
	}
	read.hash = tlog.RecordHash(line)
	return read, nil
}

func object(line []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	var value map[string]any
	if err := decoder.Decode(&value); err != nil {
		return nil, errors.New("not JSON")
	}
	return value, nil
}

// formed returns the entry that these members make, where each has its form.
func formed(members map[string]any) (*entry, bool) {
	read := &entry{Sealed: map[string]string{}}
	number, isNumber := members["i"].(json.Number)
	index, err := number.Int64()
	read.I = index
	good := members["v"] == json.Number("1") && isNumber && err == nil && index >= 0
	for name, to := range map[string]*string{"log": &read.Log, "prev": &read.Prev, "t": &read.T, "act": &read.Act} {
		*to, isNumber = members[name].(string)
		good = good && isNumber
	}
	who, isText := members["actor"].(string)
	data, isObject := members["data"].(map[string]any)
	read.data = data
	count := 8
	if sealed, told := members["sealed"]; told {
		commitments, ok := sealed.(map[string]any)
		good, count = good && ok && len(commitments) > 0, 9
		for name, each := range commitments {
			read.Sealed[name], ok = each.(string)
			_, err := parseHash(read.Sealed[name])
			good = good && ok && err == nil
		}
	}
	_, unread := parseHash(read.Prev)
	good = good && isText && isObject && len(members) == count && unread == nil && isLog(read.Log) && isMoment(read.T)
	return read, good && act.MatchString(read.Act) && actor.MatchString(who)
}

func isLog(text string) bool { return len(text) <= 200 && logName.MatchString(text) }

func isMoment(text string) bool {
	_, err := time.Parse("2006-01-02T15:04:05.000Z", text)
	return err == nil && moment.MatchString(text) && text[:4] != "0000"
}

// parseOpening reads a line of sealed.jsonl, of which there is one spelling.
func parseOpening(line []byte) (*opening, error) {
	members, err := object(line)
	if err != nil {
		return nil, err
	}
	field, isField := members["field"].(string)
	number, isNumber := members["i"].(json.Number)
	salt, isSalt := members["salt"].(string)
	value, isValue := members["value"].(string)
	index, err := number.Int64()
	if err != nil || !isField || !isNumber || !isSalt || !isValue || index < 0 || index > most {
		return nil, errors.New("not the members of an opening")
	}
	written := append(text([]byte(`{"field":`), field), fmt.Sprintf(`,"i":%d,"salt":`, index)...)
	written = append(text(append(text(written, salt), `,"value":`...), value), '}')
	if !bytes.Equal(written, line) {
		return nil, errors.New("not in canonical form")
	}
	return &opening{index, field, salt, value}, nil
}

var isAboutKeys = map[string]bool{"ledger.key_added": true, "ledger.key_retired": true}

func isKeyOf(origin, vkey string) bool {
	verifier, err := note.NewVerifier(vkey)
	return err == nil && verifier.Name() == origin && isOneSpelling(vkey, origin)
}

// beginning is the act of a log's first entry.
func beginning(origin string) string {
	if epochOf(origin) == "1" {
		return "ledger.opened"
	}
	return "ledger.reopened"
}

// epochOf reads the end of a log's name, host/ledger/organization[/epoch].
func epochOf(origin string) string {
	if parts := strings.Split(origin, "/"); len(parts) == 4 {
		return parts[3]
	}
	return "1"
}

// canonical writes the one spelling of a value that may stand in an entry.
func canonical(to []byte, value any, depth int) ([]byte, error) {
	var err error
	switch value := value.(type) {
	case map[string]any:
		if depth > deepest {
			return nil, errors.New("too deep")
		}
		var names []string
		for name := range value {
			if !member.MatchString(name) {
				return nil, errors.New("no name of a member")
			}
			names = append(names, name)
		}
		sort.Strings(names)
		to = append(to, '{')
		for k, name := range names {
			if k > 0 {
				to = append(to, ',')
			}
			to = append(text(to, name), ':')
			if to, err = canonical(to, value[name], depth+1); err != nil {
				return nil, err
			}
		}
		return append(to, '}'), nil
	case []any:
		if depth > deepest {
			return nil, errors.New("too deep")
		}
		to = append(to, '[')
		for k, each := range value {
			if k > 0 {
				to = append(to, ',')
			}
			if to, err = canonical(to, each, depth+1); err != nil {
				return nil, err
			}
		}
		return append(to, ']'), nil
	case string:
		if len(value) > longestText || strings.Contains(value, "\x00") {
			return nil, errors.New("no text of an entry")
		}
		return text(to, value), nil
	case json.Number:
		if number, err := value.Int64(); err != nil || !integer.MatchString(value.String()) || number > most || number < -most {
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
	name    string
	reader  *bufio.Reader
	isEnded bool
}

func openLines(files fs.FS, name string) (*lines, error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, fail(malformed, "no bundle: %v", err)
	}
	return &lines{name: name, reader: bufio.NewReaderSize(file, longestLine+2)}, nil
}

// next returns a line without its newline, nil at the end.
func (l *lines) next() ([]byte, error) {
	if l.isEnded {
		return nil, nil
	}
	line, err := l.reader.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		// Longer than any: it is no entry, and nothing behind it is looked at.
		l.isEnded = true
		return append([]byte{}, line...), nil
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
	if err != nil || index < 0 || len(content) > longestProof || len(rows) > 2+63 || fmt.Sprintf("index %d", index) != rows[1] {
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
	if index >= tree.N {
		return "", fail(malformed, "the checkpoint counts %d entries", tree.N)
	}
	if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(leaf)); err != nil {
		return "", fail(tampered, "entry %d is not in the log as it was signed: %v", index, err)
	}
	if read, err := parse(leaf); err != nil || read.I != index || read.Log != origin {
		return "", fail(tampered, "these bytes are not entry %d of %s", index, origin)
	}
	return fmt.Sprintf("good: entry %d of %s, as signed at %d entries\n", index, origin, tree.N), nil
}
