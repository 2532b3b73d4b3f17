// How fast this machine is just now. A time limit is there to end what would never end, so it grows
// with the time that a fixed piece of work takes: slowness alone fails no test.

/** ms that the work takes on two cores of a server of 2024 with nothing else to do. */
const usual = 200

const work = () => {
  const rows = Array.from({ length: 40_000 }, (_, i) => ({ id: (i * 7919) % 40_009, text: `${i}` }))
  const sorted = JSON.parse(JSON.stringify(rows)).sort((a, b) => a.id - b.id)
  if (sorted[0].id !== 0) throw new Error('This machine cannot sort.')
}

const measure = () => {
  const start = performance.now()
  for (let i = 0; i < 5; i++) work()
  return Math.max(1, (performance.now() - start) / usual)
}

/**
 * How many times slower than usual the machine was at the start. Measured by the first process;
 * those that it starts have it from the environment.
 */
process.env.TOKENWARD_SLOWNESS ??= measure().toFixed(1)
export const slowness = Number(process.env.TOKENWARD_SLOWNESS)

/** A time limit of so many ms, or s, on a machine of the usual speed. @param {number} time */
export const limit = (time) => Math.round(time * slowness)
