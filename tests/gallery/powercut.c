/* Preloaded into a process, writes down, in order and with the data, what it does to the files below POWERCUT_ROOT.
 *
 * The log, POWERCUT_LOG, is a row of records: head, path, data. Files are known by their inode, since a name may change
 * under an open file. A call that would change a file in a way that is not written down is not hidden: the test compares
 * the files that the log leads to with the real ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST 4096

struct head {
    uint32_t op, path_length;
    uint64_t inode, offset, data_length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static const char *root;
static char *names[MOST]; /* of open files below the root */
static ino_t inodes[MOST];

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POWERCUT_LOG");
    root = getenv("POWERCUT_ROOT");
    if (path && root) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int watched(const char *path) {
    return log_fd >= 0 && root && path && !strncmp(path, root, strlen(root));
}

static int known(int fd) { return fd >= 0 && fd < MOST && names[fd]; }

static void record(char op, ino_t inode, uint64_t offset, const char *path, const void *data, size_t length) {
    struct head head = {op, strlen(path), inode, offset, length};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path_length}, {(void *)data, length}};
    size_t all = sizeof head + head.path_length + length;
    if (syscall(SYS_writev, log_fd, parts, 3) != (ssize_t)all) abort();
}

#define AFTER(result, call, what)             \
    pthread_mutex_lock(&lock);                \
    result = call;                            \
    if (result >= 0) {                        \
        int kept = errno;                     \
        what;                                 \
        errno = kept;                         \
    }                                         \
    pthread_mutex_unlock(&lock);

static void opened(int fd, const char *path, int flags, int was_there) {
    struct stat status;
    if (fd >= MOST || fstat(fd, &status)) abort();
    free(names[fd]);
    names[fd] = strdup(path);
    inodes[fd] = status.st_ino;
    if (!was_there) record('C', status.st_ino, 0, path, "", 0);
    else if (flags & O_TRUNC) record('T', status.st_ino, 0, path, "", 0);
}

static int open_any(int folder, const char *path, int flags, mode_t mode) {
    int fd;
    struct stat status;
    if (!watched(path)) return syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = !stat(path, &status);
    fd = syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0) opened(fd, path, flags, was_there);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE                                              \
    mode_t mode = 0;                                      \
    if (flags & (O_CREAT | __O_TMPFILE)) {                \
        va_list arguments;                                \
        va_start(arguments, flags);                       \
        mode = va_arg(arguments, mode_t);                 \
        va_end(arguments);                                \
    }

int open(const char *path, int flags, ...) { MODE return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return open_any(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return open_any(folder, path, flags, mode); }

int close(int fd) {
    if (known(fd)) {
        pthread_mutex_lock(&lock);
        free(names[fd]);
        names[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return syscall(SYS_close, fd);
}

static ssize_t pwrite_any(int fd, const void *data, size_t length, off_t offset) {
    ssize_t done;
    if (!known(fd)) return syscall(SYS_pwrite64, fd, data, length, offset);
    AFTER(done, syscall(SYS_pwrite64, fd, data, length, offset), record('W', inodes[fd], offset, names[fd], data, done))
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite_any(fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return pwrite_any(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    ssize_t done;
    if (!known(fd)) return syscall(SYS_write, fd, data, length);
    AFTER(done, syscall(SYS_write, fd, data, length),
          record('W', inodes[fd], lseek(fd, 0, SEEK_CUR) - done, names[fd], data, done))
    return done;
}

static int truncate_any(int fd, off_t size) {
    int done;
    if (!known(fd)) return syscall(SYS_ftruncate, fd, size);
    AFTER(done, syscall(SYS_ftruncate, fd, size), record('T', inodes[fd], size, names[fd], "", 0))
    return done;
}

int ftruncate(int fd, off_t size) { return truncate_any(fd, size); }
int ftruncate64(int fd, off_t size) { return truncate_any(fd, size); }

static int sync_any(int fd, long number) {
    int done;
    if (!known(fd)) return syscall(number, fd);
    AFTER(done, syscall(number, fd), record('S', inodes[fd], 0, names[fd], "", 0))
    return done;
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

int rename(const char *old, const char *new) {
    int done;
    if (!watched(new)) return syscall(SYS_renameat, AT_FDCWD, old, AT_FDCWD, new);
    AFTER(done, syscall(SYS_renameat, AT_FDCWD, old, AT_FDCWD, new), record('R', 0, 0, old, new, strlen(new)))
    return done;
}

int link(const char *old, const char *new) {
    int done;
    if (!watched(new)) return syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0);
    AFTER(done, syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0), record('L', 0, 0, old, new, strlen(new)))
    return done;
}

int unlink(const char *path) {
    int done;
    if (!watched(path)) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    AFTER(done, syscall(SYS_unlinkat, AT_FDCWD, path, 0), record('U', 0, 0, path, "", 0))
    return done;
}

int mkdir(const char *path, mode_t mode) {
    int done;
    if (!watched(path)) return syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    AFTER(done, syscall(SYS_mkdirat, AT_FDCWD, path, mode), record('M', 0, 0, path, "", 0))
    return done;
}
