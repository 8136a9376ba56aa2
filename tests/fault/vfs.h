// A faulty file layer for SQLite: a shim over the default VFS that replaces it as the default, so that the store uses
// the shim without a change. The shim counts the calls of each kind, makes the n-th call or all calls from the n-th on
// fail, and reports writes and syncs to a journal.

// Locks and the index in shared memory (-shm) pass through unrecorded. Sleeping (xSleep) takes no time. The store also
// writes to the log itself, bypassing SQLite: if the program is linked with --wrap, the same faults and the same
// journal apply to its pwrite and fdatasync.
//
// A process has one shim, which only one thread at a time may use.
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
    VFS_OWN_WRITE, // pwrite in the store's own code
    VFS_OWN_SYNC,  // fdatasync in the store's own code
};

struct vfs_fault {
    enum vfs_call call;
    int file;           // SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_WAL …: only calls on such a file; 0: on any file
    unsigned countdown; // number of the call that fails, counted from 1; 0: none
    bool repeat;        // all following calls fail, too
    int code;           // the extended result code of the failing call
    int cause;          // errno of the failing call
    bool partial;       // a failing write still writes half of its bytes
};

// journal: NULL is allowed. Files that are already open continue to use the underlying VFS.
void vfs_install(struct journal *journal);

// Starts counting. NULL: no call fails from now on.
void vfs_set_fault(const struct vfs_fault *fault);

// Returns true if a call has failed since vfs_set_fault.
bool vfs_fault_fired(void);

// Returns the number of checkpoints that have ended, successfully or not. Any thread may call this.
unsigned vfs_checkpoints(void);
