// Implements a typical receiver in Go with net/http, mattn's SQLite driver and one transaction per request. This
// receiver does the essential work of the daemon: it checks the signature, parses the body, stores group and members
// durably, and answers OK.
package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	_ "github.com/mattn/go-sqlite3"
)

const schema = `
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sdk_appid INTEGER NOT NULL, group_id TEXT NOT NULL,
    event_time_ms INTEGER, type TEXT, owner TEXT, operator TEXT, name TEXT, client_ip TEXT, received_at_ms INTEGER,
    UNIQUE (sdk_appid, event_time_ms, group_id));
CREATE TABLE IF NOT EXISTS member (
    event_id INTEGER NOT NULL, position INTEGER NOT NULL, account TEXT NOT NULL, PRIMARY KEY (event_id, position));`

type callback struct {
	EventTime  int64  `json:"EventTime"`
	GroupID    string `json:"GroupId"`
	Type       string `json:"Type"`
	Owner      string `json:"Owner_Account"`
	Operator   string `json:"Operator_Account"`
	Name       string `json:"Name"`
	MemberList []struct {
		Account string `json:"Member_Account"`
	} `json:"MemberList"`
}

type receiver struct {
	db     *sql.DB
	group  *sql.Stmt
	member *sql.Stmt
	token  string
}

func (r *receiver) genuine(sign, requestTime string) bool {
	seconds, err := strconv.ParseInt(requestTime, 10, 64)
	skew := time.Now().Unix() - seconds
	sum := sha256.Sum256([]byte(r.token + requestTime))
	right := subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(sign)) == 1
	return err == nil && right && skew >= -60 && skew <= 60
}

func (r *receiver) store(app, clientIP string, c *callback) error {
	tx, err := r.db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	done, err := tx.Stmt(r.group).Exec(app, c.GroupID, c.EventTime, c.Type, c.Owner, c.Operator, c.Name, clientIP,
		time.Now().UnixMilli())
	if err != nil {
		return err
	}
	id, err := done.LastInsertId()
	if err != nil {
		return err
	}
	insert := tx.Stmt(r.member)
	for position, member := range c.MemberList {
		if _, err := insert.Exec(id, position, member.Account); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func answer(w http.ResponseWriter, status int, word, info string, code int) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		ActionStatus string
		ErrorInfo    string
		ErrorCode    int
	}{word, info, code})
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	var c callback
	if !r.genuine(query.Get("Sign"), query.Get("RequestTime")) {
		answer(w, http.StatusForbidden, "FAIL", "signature", 1)
	} else if err := json.NewDecoder(request.Body).Decode(&c); err != nil {
		answer(w, http.StatusBadRequest, "FAIL", err.Error(), 1)
	} else if err := r.store(query.Get("SdkAppid"), query.Get("ClientIP"), &c); err != nil {
		answer(w, http.StatusServiceUnavailable, "FAIL", err.Error(), 1)
	} else {
		answer(w, http.StatusOK, "OK", "", 0)
	}
}

func prepare(db *sql.DB, text string) *sql.Stmt {
	statement, err := db.Prepare(text)
	if err != nil {
		log.Fatal(err)
	}
	return statement
}

// Usage: receiver ADDRESS CERTIFICATE KEY DATABASE TOKEN
func main() {
	db, err := sql.Open("sqlite3", "file:"+os.Args[4]+"?_journal_mode=WAL&_synchronous=FULL&_txlock=immediate")
	if err != nil {
		log.Fatal(err)
	}
	// SQLite has one writer; more connections would only wait for one another.
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(schema); err != nil {
		log.Fatal(err)
	}
	r := &receiver{db: db, token: os.Args[5],
		group:  prepare(db, "INSERT INTO event VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"),
		member: prepare(db, "INSERT INTO member VALUES (?, ?, ?)")}
	server := &http.Server{Addr: os.Args[1], Handler: r, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	log.Fatal(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
}
