// Replaces SQLite's default VFS with a shim over it, so that the store uses a faulty file layer without a change. The
// shim counts the calls of one kind, makes the n-th call or all calls from the n-th on fail, and reports all changes
// and syncs to a journal.

// The shim does not record locks or the index in shared memory (-shm). Sleeping (xSleep) takes no time. The store also
// writes to the log itself, bypassing SQLite: if the program is linked with --wrap=pwrite,--wrap=fdatasync, the shim
// also counts these calls, makes them fail, and records them.
//
// A process has one shim. Only one thread at a time may call SQLite through the shim.
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
    int file;           // only calls on files of this type, such as SQLITE_OPEN_WAL; 0: on any file
    unsigned countdown; // number of the call that fails, counted from 1; 0: none
    bool repeat;        // all following calls fail, too
    int code;           // the extended result code of the failing call
    int cause;          // errno of the failing call
    bool partial;       // a failing write still writes half of its bytes
};

// Makes the shim the default VFS of this process. The journal may be NULL. Must be called at most once. Files that are
// already open continue to use the underlying VFS.
void vfs_install(struct journal *journal);

// Sets the fault and restarts the count of calls. If fault is NULL, no call fails from now on.
void vfs_set_fault(const struct vfs_fault *fault);

// Returns true if a call has failed since vfs_set_fault.
bool vfs_fault_fired(void);

// Returns the number of checkpoints that have ended, successfully or not. Any thread may call this function.
unsigned vfs_checkpoints(void);
