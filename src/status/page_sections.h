// The sections of the page below the plots: tables and tiles.
#pragma once

#include "imcallbackd/status/status.h"
#include "writer.h"

void page_write_endpoint(struct writer *writer, const struct status *status);
void page_write_rejected(struct writer *writer, const struct status *status);
void page_write_refusals(struct writer *writer, const struct status *status);
void page_write_machine(struct writer *writer, const struct status *status);
void page_write_outbound(struct writer *writer, const struct status *status);
void page_write_figures(struct writer *writer, const struct status *status);
