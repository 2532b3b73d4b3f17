/**
 * The end of a run: everything works again, time passes, and then the record has to be usable.
 */
import { pause } from './program.js'
import type { Fetched, Tab } from './tab.js'
import type { World } from './world.js'

/** ms in which everything that was under way has ended, the slowest sign-in included */
const settlingTime = 180_000
/** ms */
const tryEvery = 60_000
/** Together longer than any pause that the worker makes. */
const mostTries = 16

const fetchFrom = (tab: Tab): Promise<Fetched> => new Promise((resolve) => tab.fetch(resolve))

/** Everything works again, and some time passes. */
const heal = async (world: World): Promise<Tab> => {
  const { faults, workers, tabs, chance, server, scheduler } = world
  faults.heal()
  world.ambushes = []
  world.onlineSince = scheduler.time()
  world.isDiskFull = false
  if (world.isDiskSlow) world.diskSlowUntil = scheduler.time()
  world.isDiskSlow = false
  world.invariants.calls.diskChanges()
  server.refuseAtApi(false)
  // Clocks get set right some day, though not all of them soon.
  if (Math.abs(world.clockError) > 3_600_000 || chance.is(0.5)) world.setClock(0)
  for (const worker of workers) worker.spare()
  await pause(world, settlingTime, 'everything has settled')
  for (const tab of tabs) {
    tab.visible = true
    tab.isFrozen = false
  }
  return tabs.find((tab) => tab.isHere()) ?? world.openTab()
}

/**
 * At rest the record is usable: requests work again if the server has any way to let them, and
 * somebody can sign in.
 */
export const runToRest = async (world: World): Promise<void> => {
  const { invariants, server, locks, scheduler } = world
  const tab = await heal(world)
  let result: Fetched = 'network error'
  for (let tries = 0; tries < mostTries; tries++) {
    result = await fetchFrom(tab)
    if (result !== 'network error' && result.status === 200) break
    if (invariants.record()?.status !== 'active') break
    await pause(world, tryEvery, 'another try')
  }
  invariants.settled()
  const record = invariants.record()
  const works = result !== 'network error' && result.status === 200
  scheduler.note(`at rest: ${works ? 'requests work' : 'requests do not work'}`)
  if (record?.status === 'active' && !works) {
    const { refreshToken, subject, loginRequired } = record
    if (server.wouldTake(refreshToken)) invariants.fail('at rest a good refresh token is not used')
    if (server.wouldSignIn(subject)) invariants.fail('at rest a silent login is not tried')
    if (!loginRequired) invariants.fail('at rest nobody has been asked to sign in')
  }

  world.setClock(0)
  const last = world.openTab()
  last.login({ signsIn: 'alice' })
  for (let waited = 0; waited < settlingTime && !last.isBack(); waited += 100) {
    await pause(world, 100, 'somebody signs in')
  }
  const signedIn = invariants.record()
  if (signedIn?.status !== 'active' || signedIn.subject !== 'alice') {
    return invariants.fail('at rest nobody can sign in')
  }
  const fetched = await fetchFrom(last)
  if (fetched === 'network error' || fetched.status !== 200) {
    invariants.fail('at rest a request fails after a sign-in')
  }
  await pause(world, settlingTime, 'the end')
  const check = (state: string | undefined) => {
    if (state === 'renewing') invariants.fail('at rest a page is told of a renewal')
  }
  for (const each of world.tabs) each.askSession(check)
  await pause(world, 1_000)
  invariants.settled()
  const [open] = invariants.calls.unsettled()
  if (open) invariants.fail(`${open.what} of ${open.owner.name} never ended`)
  if (locks.holder()) invariants.fail('at rest the lock is held')
}
