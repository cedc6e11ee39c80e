// SPDX-License-Identifier: GPL-2.0-only
/* Allocations from hard interrupts, soft interrupts and every CPU at once. */
#include <linux/completion.h>
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/percpu.h>
#include <linux/smp.h>

#include "planted.h"

#define REQUEST 157
#define PER_INTERRUPT 7
#define INTERRUPTS 13

#define ATOMIC_SITE(name) \
	static planted_site void *name(void) \
	{ \
		void *object = kmalloc(REQUEST, GFP_ATOMIC); \
\
		planted_keep(object); \
		return object; \
	} \
	static const struct planted_how name##_how = PLANTED_KMALLOC(name, "atomic");

ATOMIC_SITE(planted_hardirq)
ATOMIC_SITE(planted_ipi)
ATOMIC_SITE(planted_softirq)
ATOMIC_SITE(planted_storm_task)
ATOMIC_SITE(planted_storm_irq)
ATOMIC_SITE(planted_storm_softirq)

static void take_some(const struct planted_how *how, void *(*site)(void))
{
	unsigned int n;

	for (n = 0; n < PER_INTERRUPT; n++)
		planted_take(how, site(), REQUEST);
}

static void from_hardirq(struct irq_work *work)
{
	WARN_ON_ONCE(!hardirq_count());
	take_some(&planted_hardirq_how, planted_hardirq);
}

static void from_ipi(void *unused)
{
	take_some(&planted_ipi_how, planted_ipi);
}

static struct irq_work hardirq_work;

static int run_hardirq(void)
{
	unsigned int n;

	init_irq_work(&hardirq_work, from_hardirq);
	for (n = 0; n < INTERRUPTS; n++) {
		irq_work_queue(&hardirq_work);
		irq_work_sync(&hardirq_work);
	}
	planted_drop(&planted_hardirq_how, PLANTED_FREES);
	return 0;
}

static int run_ipi(void)
{
	unsigned int n;

	for (n = 0; n < INTERRUPTS; n++)
		on_each_cpu(from_ipi, NULL, 1);
	planted_drop(&planted_ipi_how, PLANTED_FREES);
	return 0;
}

static DECLARE_COMPLETION(softirq_done);

static void from_tasklet_context(struct tasklet_struct *tasklet)
{
	WARN_ON_ONCE(!in_serving_softirq());
	take_some(&planted_softirq_how, planted_softirq);
	complete(&softirq_done);
}

static struct tasklet_struct tasklet;

static int run_softirq(void)
{
	unsigned int n;

	tasklet_setup(&tasklet, from_tasklet_context);
	for (n = 0; n < INTERRUPTS; n++) {
		reinit_completion(&softirq_done);
		tasklet_schedule(&tasklet);
		wait_for_completion(&softirq_done);
	}
	tasklet_kill(&tasklet);
	planted_drop(&planted_softirq_how, PLANTED_FREES);
	return 0;
}

/*
 * The storm: a thread on every CPU allocates and frees as fast as it can while
 * hard and soft interrupts on the same CPU do so too. Counts are taken per CPU
 * and context and entered into the books at the end, so that no lock orders what
 * must collide.
 */
#define STORM_ROUNDS 2003
#define STORM_IRQ_EVERY 19
#define STORM_IRQ_ALLOCS 3

struct storm_share {
	unsigned int allocs;
	void *example;
};

struct storm {
	struct irq_work work;
	struct tasklet_struct tasklet;
	struct task_struct *thread;
	struct storm_share task, irq, softirq;
};

static DEFINE_PER_CPU(struct storm, storms);
static atomic_t storm_gate, storm_left;
static DECLARE_COMPLETION(storm_done);

/* Count an object and free it; the first stays, for its slab tells the cache. */
static void storm_object(struct storm_share *share, void *object)
{
	if (!object)
		return;
	share->allocs++;
	if (share->example)
		kfree(object);
	else
		share->example = object;
}

static void storm_softirq(struct tasklet_struct *tasklet)
{
	struct storm *storm = container_of(tasklet, struct storm, tasklet);
	unsigned int n;

	for (n = 0; n < STORM_IRQ_ALLOCS; n++)
		storm_object(&storm->softirq, planted_storm_softirq());
}

static void storm_irq(struct irq_work *work)
{
	struct storm *storm = container_of(work, struct storm, work);
	unsigned int n;

	for (n = 0; n < STORM_IRQ_ALLOCS; n++)
		storm_object(&storm->irq, planted_storm_irq());
	tasklet_schedule(&storm->tasklet);
}

static int storm_thread(void *data)
{
	struct storm *storm = data;
	unsigned int n;

	atomic_dec(&storm_gate);
	while (atomic_read(&storm_gate))
		cond_resched();
	for (n = 0; n < STORM_ROUNDS; n++) {
		storm_object(&storm->task, planted_storm_task());
		if (n % STORM_IRQ_EVERY == 0)
			irq_work_queue(&storm->work);
		if (n % 64 == 0)
			cond_resched();
	}
	irq_work_sync(&storm->work);
	tasklet_kill(&storm->tasklet);
	if (atomic_dec_and_test(&storm_left))
		complete(&storm_done);
	return 0;
}

static void settle(const struct planted_how *how, struct storm_share *share)
{
	if (share->example) {
		planted_add(how, share->example, REQUEST, share->allocs, share->allocs);
		kfree(share->example);
	}
	*share = (struct storm_share){};
}

static int run_storm(void)
{
	unsigned int cpu, threads = 0;
	int error = 0;

	cpus_read_lock();
	reinit_completion(&storm_done);
	for_each_online_cpu(cpu) {
		struct storm *storm = per_cpu_ptr(&storms, cpu);

		init_irq_work(&storm->work, storm_irq);
		tasklet_setup(&storm->tasklet, storm_softirq);
		storm->thread = kthread_create_on_node(storm_thread, storm, cpu_to_node(cpu),
						       "planted/%u", cpu);
		if (IS_ERR(storm->thread)) {
			error = PTR_ERR(storm->thread);
			storm->thread = NULL;
			continue;
		}
		kthread_bind(storm->thread, cpu);
		threads++;
	}
	atomic_set(&storm_gate, threads);
	atomic_set(&storm_left, threads);
	for_each_online_cpu(cpu)
		if (per_cpu_ptr(&storms, cpu)->thread)
			wake_up_process(per_cpu_ptr(&storms, cpu)->thread);
	if (threads)
		wait_for_completion(&storm_done);
	for_each_online_cpu(cpu) {
		struct storm *storm = per_cpu_ptr(&storms, cpu);

		settle(&planted_storm_task_how, &storm->task);
		settle(&planted_storm_irq_how, &storm->irq);
		settle(&planted_storm_softirq_how, &storm->softirq);
	}
	cpus_read_unlock();
	return error;
}

/* A thread reports itself done just before it leaves the module's code. */
void planted_contexts_exit(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		if (per_cpu_ptr(&storms, cpu)->thread) {
			msleep(100);
			break;
		}
}

const struct planted_scenario planted_contexts[] = {
	{ "hardirq", run_hardirq },
	{ "ipi", run_ipi },
	{ "softirq", run_softirq },
	{ "storm", run_storm },
	{},
};
