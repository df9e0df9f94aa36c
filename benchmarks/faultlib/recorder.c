/* Preloaded into a process, writes down every change of the files below one folder, in the order in which they were
 * made: what a crash or a power cut may leave of them can then be laid out again, cut anywhere.
 *
 * RECORD_FOLDER  the folder, absolute, without a slash at its end
 * RECORD_LOG     where the records go: a header of 24 bytes, the name of the file, the bytes written
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS 4096
enum { WRITE = 1, TRUNCATE = 2, SYNC = 3, UNLINK = 4, RENAME = 5, CREATE = 6 };

struct head { uint32_t kind, name_bytes; uint64_t offset, data_bytes; };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *names[FDS];
static const char *folder;
static size_t folder_bytes;
static int log_fd = -1;

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

static ssize_t plain_write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, size);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("RECORD_LOG");
    folder = getenv("RECORD_FOLDER");
    if (!path || !folder) return;
    folder_bytes = strlen(folder);
    log_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
}

static const char *watched(const char *path) {
    if (log_fd < 0 || strncmp(path, folder, folder_bytes) || path[folder_bytes] != '/') return NULL;
    path += folder_bytes + 1;
    size_t size = strlen(path);
    return size > 4 && !strcmp(path + size - 4, "-shm") ? NULL : path; /* shared memory is no file's content */
}

static const char *named(int fd) { return fd >= 0 && fd < FDS && log_fd >= 0 ? names[fd] : NULL; }

/* Called with the lock held. */
static void note(uint32_t kind, const char *name, uint64_t offset, const void *data, uint64_t size) {
    struct head head = {kind, (uint32_t)strlen(name), offset, size};
    if (plain_write(log_fd, &head, sizeof head) < 0 || plain_write(log_fd, name, head.name_bytes) < 0) abort();
    if (size && plain_write(log_fd, data, size) < 0) abort();
}

static int opened(int fd, const char *path, int flags, int existed) {
    const char *name = fd >= 0 && fd < FDS ? watched(path) : NULL;
    if (!name) return fd;
    pthread_mutex_lock(&lock);
    free(names[fd]);
    names[fd] = strdup(name);
    if (!existed) note(CREATE, name, 0, NULL, 0);
    else if (flags & O_TRUNC) note(TRUNCATE, name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
        int existed = access(path, F_OK) == 0; \
        return opened(real(path, flags, mode), path, flags, existed); \
    }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(int, #name, int, const char *, int, ...); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
        int existed = access(path, F_OK) == 0; \
        return opened(real(at, path, flags, mode), path, flags, existed); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(int, "close", int);
    if (named(fd)) {
        pthread_mutex_lock(&lock);
        free(names[fd]);
        names[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return real(fd);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (!named(fd)) return plain_write(fd, data, size);
    pthread_mutex_lock(&lock);
    off_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = plain_write(fd, data, size);
    if (done > 0) note(WRITE, names[fd], at, data, done);
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name, offset_t) \
    ssize_t name(int fd, const void *data, size_t size, offset_t at) { \
        REAL(ssize_t, #name, int, const void *, size_t, offset_t); \
        if (!named(fd)) return real(fd, data, size, at); \
        pthread_mutex_lock(&lock); \
        ssize_t done = real(fd, data, size, at); \
        if (done > 0) note(WRITE, names[fd], at, data, done); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define CHANGE(name, kind, offset, parameters, arguments, types) \
    int name parameters { \
        REAL(int, #name, types); \
        if (!named(fd)) return real arguments; \
        pthread_mutex_lock(&lock); \
        int done = real arguments; \
        if (done == 0) note(kind, names[fd], offset, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
#define COMMA ,
CHANGE(ftruncate, TRUNCATE, size, (int fd, off_t size), (fd, size), int COMMA off_t)
CHANGE(ftruncate64, TRUNCATE, size, (int fd, off64_t size), (fd, size), int COMMA off64_t)
CHANGE(fsync, SYNC, 0, (int fd), (fd), int)
CHANGE(fdatasync, SYNC, 0, (int fd), (fd), int)

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    const char *name = watched(path);
    if (!name) return real(path);
    pthread_mutex_lock(&lock);
    int done = real(path);
    if (done == 0) note(UNLINK, name, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return done;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    const char *old = watched(from), *name = watched(to);
    if (!old || !name) return real(from, to);
    pthread_mutex_lock(&lock);
    int done = real(from, to);
    if (done == 0) note(RENAME, old, 0, name, strlen(name));
    pthread_mutex_unlock(&lock);
    return done;
}
