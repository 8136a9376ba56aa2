// SQLite's file layer with faults: a shim over the default one of this system that becomes the default itself, so that
// the store runs on it as it is. It counts the calls of each kind, makes one or all from the n-th on fail, and tells a
// journal what was written and synced.
//
// SQLite's locks and its index in shared memory (-shm) go through as they are, whoever writes them. Waiting (xSleep)
// takes no time. The store also writes to the log by itself, past SQLite: its pwrite and fdatasync are bent to the same
// faults and the same journal when the program is linked with --wrap.
//
// One shim a process, used by one thread at a time.
#pragma once

#include <stdbool.h>

#include "journal.h"

enum vfs_call {
    VFS_OPEN,
    VFS_READ,
    VFS_WRITE,
    VFS_SYNC,
    VFS_TRUNCATE,
    VFS_FILE_SIZE,
    VFS_LOCK,
    VFS_SHM_MAP,
    VFS_SHM_LOCK,
    VFS_DELETE,
    VFS_ACCESS,
    VFS_OWN_WRITE, // the store's own
    VFS_OWN_SYNC,
};

struct vfs_fault {
    enum vfs_call call;
    int file;           // SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_WAL …: only calls for such a file; 0: for any
    unsigned countdown; // the n-th call fails, counted from 1; 0: none
    bool repeat;        // and all that follow
    int code;           // SQLite's, extended
    int cause;          // errno
    bool partial;       // a write gets half of its bytes into the file before it fails
};

// The journal may be NULL. What was opened before stays on the layer below.
void vfs_install(struct journal *journal);

// Counts from here. NULL: nothing fails any more.
void vfs_set_fault(const struct vfs_fault *fault);

// Has it failed at all?
bool vfs_fault_fired(void);

// How many checkpoints were tried and are over. Any thread may call.
unsigned vfs_checkpoints(void);
