// Asks the libraries themselves, because their versions may differ from those of the build.
#include "imcallbackd/http/mhd_version.h"

#include <gnutls/gnutls.h>
#include <microhttpd.h>

const char *http_libmicrohttpd_version(void)
{
    return MHD_get_version();
}

const char *http_gnutls_version(void)
{
    return gnutls_check_version(NULL);
}
