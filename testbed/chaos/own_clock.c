/* The time of day of one process, moved by what a file says; loaded under it with LD_PRELOAD.
 *
 * FIMI_CHAOS_CLOCK names a file of 8 bytes: nanoseconds to add, as a signed number in the machine's
 * order. It is mapped, so that a change is seen at once. Only the time of day is moved: durations,
 * sleeps and timeouts go by other clocks. sem_timedwait() is the exception that is mended here,
 * since its deadline is a time of day.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static const volatile int64_t *shift_ns;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_sem_timedwait)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FIMI_CHAOS_CLOCK");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    real_sem_timedwait = dlsym(RTLD_NEXT, "sem_timedwait");
    if (path != NULL) {
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) {
            void *found = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
            if (found != MAP_FAILED)
                shift_ns = found;
            close(file);
        }
    }
}

static struct timespec moved(struct timespec at, int64_t by_ns)
{
    int64_t all = (int64_t)at.tv_sec * SECOND + at.tv_nsec + by_ns;
    if (all < 0)
        all = 0;
    at.tv_sec = all / SECOND;
    at.tv_nsec = all % SECOND;
    return at;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    if (real_clock_gettime == NULL) /* before begin(): another library's constructor */
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, at);
    if (result == 0 && shift_ns != NULL &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        *at = moved(*at, *shift_ns);
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return (time_t)-1;
    if (at != NULL)
        *at = now.tv_sec;
    return now.tv_sec;
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict until)
{
    struct timespec real = *until;
    if (shift_ns != NULL)
        real = moved(real, -*shift_ns);
    return real_sem_timedwait(sem, &real);
}
