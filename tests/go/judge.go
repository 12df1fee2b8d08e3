// Judge says of each case on its standard input, a line of JSON, whether Go's note and tlog accept it: a line "ok" or
// "refused: " with the reason. A case with `proof` is a proof file and its leaf, one with `old` a consistency proof.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Octets are base64 in JSON: a mutated text need not be UTF-8.
type judged struct {
	Vkey   string   `json:"vkey"`
	Proof  []byte   `json:"proof"`
	Leaf   []byte   `json:"leaf"`
	Old    []byte   `json:"old"`
	New    []byte   `json:"new"`
	Hashes [][]byte `json:"hashes"`
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(make([]byte, 1<<20), 1<<20)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for input.Scan() {
		var one judged
		if err := json.Unmarshal(input.Bytes(), &one); err != nil {
			fmt.Fprintln(os.Stderr, "no case:", err)
			os.Exit(2)
		}
		if err := judge(one); err != nil {
			fmt.Fprintln(output, "refused:", strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Fprintln(output, "ok")
		}
	}
}

func judge(one judged) error {
	if one.Proof != nil {
		return judgeInclusion(one)
	}
	old, err := open(one.Old, one.Vkey)
	if err != nil {
		return err
	}
	grown, err := open(one.New, one.Vkey)
	if err != nil {
		return err
	}
	proof := tlog.TreeProof{}
	for _, each := range one.Hashes {
		if len(each) != tlog.HashSize {
			return errors.New("no hash")
		}
		proof = append(proof, *(*tlog.Hash)(each))
	}
	return tlog.CheckTree(proof, grown.N, grown.Hash, old.N, old.Hash)
}

func judgeInclusion(one judged) error {
	head, signed, found := strings.Cut(string(one.Proof), "\n\n")
	rows := strings.Split(head, "\n")
	if !found || len(rows) < 2 || rows[0] != "c2sp.org/tlog-proof@v1" {
		return errors.New("no proof file")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(rows[1], "index "), 10, 64)
	if err != nil || rows[1] != fmt.Sprintf("index %d", index) {
		return errors.New("no index")
	}
	proof := tlog.RecordProof{}
	for _, row := range rows[2:] {
		hash, err := parse(row)
		if err != nil {
			return err
		}
		proof = append(proof, hash)
	}
	tree, err := open([]byte(signed), one.Vkey)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(one.Leaf))
}

// open returns the tree of a checkpoint that the log of the verifier key signed.
func open(signed []byte, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	rows := strings.Split(opened.Text, "\n")
	if len(rows) != 4 || rows[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("no checkpoint of this log")
	}
	size, err := strconv.ParseInt(rows[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != rows[1] {
		return tlog.Tree{}, errors.New("no size")
	}
	root, err := parse(rows[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// parse reads a hash in its one spelling: Go's decoder would let spare bits pass.
func parse(text string) (tlog.Hash, error) {
	hash, err := tlog.ParseHash(text)
	if err == nil && hash.String() != text {
		err = errors.New("another spelling of a hash")
	}
	return hash, err
}
