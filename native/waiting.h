/* Who serves others with this thread is told before it waits for a disk or for another thread's chunk. */
#ifndef ZIPFS_WAITING_H
#define ZIPFS_WAITING_H

/* What is to be called on this thread, NULL for nothing: quick, and it may be called with locks held. */
void zipfs_on_wait(void (*about_to_wait)(void));
void zipfs_about_to_wait(void);

#endif
