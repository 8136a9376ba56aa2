// Names the versions of the shared libraries on which the HTTP server runs.
#pragma once

// These functions return texts such as "0.9.75" and "3.7.9". Any thread may call them.
const char *http_libmicrohttpd_version(void);
const char *http_gnutls_version(void);
