// `--version` prints the version of the program, its optional parts, and the libraries with which it runs. The
// libraries are shared, so their versions may differ from those of the build.
#include <stdio.h>

#include "imcallbackd/callback/callback.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/deliver/deliver.h"
#include "imcallbackd/forward/forward.h"
#include "imcallbackd/http/mhd_version.h"
#include "imcallbackd/store/store.h"

#include <openssl/crypto.h>

static const char *yes_or_no(bool is_built)
{
    return is_built ? "yes" : "no";
}

void command_print_version(void)
{
    const char *libcurl = deliver_libcurl_version();
    int libpq = forward_libpq_version();

    printf("imcallbackd " IMCALLBACKD_VERSION "\nforward: %s\ndeliver: %s\nsystemd: %s\n", yes_or_no(forward_is_built),
           yes_or_no(deliver_is_built), yes_or_no(command_has_systemd));
    printf("libmicrohttpd: %s\nGnuTLS: %s\nOpenSSL: %s\nSQLite: %s\ncJSON: %s\n", http_libmicrohttpd_version(),
           http_gnutls_version(), OpenSSL_version(OPENSSL_VERSION_STRING), store_sqlite_version(),
           callback_cjson_version());
    if (libcurl)
        printf("libcurl: %s\n", libcurl);
    if (libpq)
        printf("libpq: %d.%d\n", libpq / 10000, libpq % 10000);
}
