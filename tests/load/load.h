// What the two halves of the load generator share: clients (client.c), and the whole that drives them (load.c).
//
// A client has one request under way at most:
//   CLOSED ─► SHAKING_HANDS ─► READY ─► SENDING ─► RECEIVING ─► READY …
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
    SSL_SESSION *session;  // to be resumed by the next connection; NULL: none
    uint64_t event;        // number of the event under way
    bool has_request;      // request is to be sent or was sent and is not answered
    struct buffer request; // head and body
    size_t sent;           // bytes of it
    int64_t begun_at_us;   // when the request was to be sent, which is before a handshake that it needs
    char answer[ANSWER_BYTES];
    size_t answer_length;
};

struct options {
    uint64_t port, app, connections, total, rounds, members, seed, timeout_s;
    const char *token, *acknowledged, *ca;
    bool new_connection, resume, gated;
};

struct load {
    struct options options;
    SSL_CTX *tls;
    int epoll_fd;
    FILE *acknowledged;
    struct client *clients;
    uint64_t busy; // clients that are SHAKING_HANDS, SENDING or RECEIVING
    uint64_t planned, begun, answered, ok, failed_connections, resumed, unanswered;
    uint64_t by_status[STATUS_END];
    uint32_t *latencies_us; // of the answered ones
    uint32_t *rounds_us;
    uint64_t rounds_done;
    struct buffer body; // of the request in the making
    char request_time[24];
    char sign[SIGNATURE_HEX_LENGTH + 1];
};

// Ends the program: what is wrong, and why.
_Noreturn void die(const char *what, const char *why);
void *checked(void *memory);

int64_t now_us(void);
uint32_t us_since(int64_t begin_us);

// Begins to connect.
void client_open(struct client *client);

// For SSL_CTX_sess_set_new_cb: the client's next connection resumes this session, which is the client's now.
int client_keep_session(SSL *ssl, SSL_SESSION *session);

// Makes the next request, to be sent by client_drive; connects for it when the client is CLOSED.
void client_begin(struct client *client);

// Goes on with a client until it has to wait for its socket.
void client_drive(struct client *client);

// The client is out of the game. A request of which a byte was sent should have been answered.
void client_fail(struct client *client);

void client_close(struct client *client);
