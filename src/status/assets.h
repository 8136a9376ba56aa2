// The style sheet and the script of the page. The build makes them from status.css and status.js; see embed.cmake. The
// page contains both texts exactly, because the Content-Security-Policy names their hashes.
#pragma once

extern const char status_css[], status_js[];
