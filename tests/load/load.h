// Declares the interface between the clients (client.c) and the program that drives them (load.c). A client has at most
// one request in flight, and passes through these states:
//   CLOSED ─► SHAKING_HANDS ─► READY ─► SENDING ─► RECEIVING ─► READY
// A client that connects for a request skips the first READY. A closed or failed connection leads back to CLOSED.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/callback/signature.h"

#include <openssl/ssl.h>

#define ANSWER_BYTES 4096
#define STATUS_END   600

enum client_state { CLOSED, SHAKING_HANDS, READY, SENDING, RECEIVING };

struct load;

struct client {
    struct load *load;
    enum client_state state;
    int fd;
    SSL *ssl;
    SSL_SESSION *session;  // the next connection resumes this session; NULL: none
    uint64_t event;        // number of the event in the request
    bool has_request;      // the request is not answered yet
    struct buffer request; // head and body
    size_t sent;           // bytes of the request that were sent
    int64_t started_at_us; // when the client started to send, or to connect for this request
    char answer[ANSWER_BYTES];
    size_t answer_length;
};

struct options {
    uint64_t port, app, connections, total, rounds, members, seed, timeout_s;
    uint64_t idle;   // number of connections that send one request each and then stay idle
    uint64_t groups; // the events belong to this many groups in turn; 0: each event has a group of its own
    const char *token, *acknowledged, *ca;
    bool new_connection, resume, gated;
    bool connect_late; // each client connects when the work starts, while others already send requests
};

struct load {
    struct options options;
    SSL_CTX *tls;
    int epoll_fd;
    FILE *acknowledged;
    struct client *clients; // those that work, and after them the idle ones
    bool opens_idle;        // the idle clients connect and send their requests; the others do not exist yet
    uint64_t next_event;
    uint64_t busy;    // number of clients that are SHAKING_HANDS, SENDING or RECEIVING
    uint64_t shaking; // number of clients that are SHAKING_HANDS
    uint64_t planned, started, answered, ok, failed_connections, resumed, unanswered;
    uint64_t by_status[STATUS_END];
    uint32_t *latencies_us; // latencies of the answered requests
    uint32_t *rounds_us;
    uint64_t rounds_done;
    struct buffer body; // body of the request that is being built
    char request_time[24];
    char sign[SIGNATURE_HEX_LENGTH + 1];
};

// Prints `imcallbackd-load: what: why` on standard error and exits with status 2.
_Noreturn void die(const char *what, const char *why);

// Returns the memory. Ends the program if the memory is NULL.
void *checked(void *memory);

int64_t now_us(void);
uint32_t us_since(int64_t start_us);

// Starts to connect; client_drive() continues. The client must be CLOSED.
void client_open(struct client *client);

// The callback for SSL_CTX_sess_set_new_cb. The client takes ownership of the session, which its next connection
// resumes.
int client_keep_session(SSL *ssl, SSL_SESSION *session);

// Builds the next request, which client_drive() sends. The client must be READY or CLOSED; if CLOSED, it starts to
// connect.
void client_start_request(struct client *client);

// Continues until the client has to wait for its socket, or has nothing left to do.
void client_drive(struct client *client);

// Counts the connection as failed and closes it. If the client was sending a request or waiting for the answer, the
// request counts as unanswered.
void client_fail(struct client *client);

void client_close(struct client *client);
