/**
 * What a browser does when a tab or a hidden frame goes to an auth page: the worker answers, the
 * server sends back, and so on until a page loads.
 */
import { arrivalOf } from '../../sw/http/arrival.js'
import { issuer } from './model-server.js'
import type { Owner } from './scheduler.js'
import type { Worker } from './worker.js'
import type { World } from './world.js'

/** What navigates: a tab, or a hidden frame in it. */
interface Navigator {
  worker: Worker
  owner: Owner
  /** Client id that the page will have. */
  pageId: string
  isFrame: boolean
}

/** Whoever sits before the page of the server. */
export interface User {
  /** As whom. */
  signsIn?: string
  cancels?: boolean
  /** Needs no time for it. */
  isQuick?: boolean
}

/** ms that somebody needs to sign in */
const signInTimes = [0, 2_000, 15_000, 70_000] as const

/**
 * Follows a navigation: auth pages are answered by a worker, the server sends back. `onLoad` gets
 * the URL at which it ends; undefined if that is a page of the network, or of the browser itself.
 * A worker that is killed over it is not asked again: a frame stays as it is for ever, a tab
 * gets the inert page from the network, and its user goes back to the app.
 */
export const navigate = (
  world: World,
  navigator: Navigator,
  href: string,
  onLoad: (url: string | undefined) => void,
  user: User = {},
): void => {
  const { scheduler, chance, server, invariants, database } = world
  const { worker, owner, pageId, isFrame } = navigator
  const url = new URL(href)
  const name = `${isFrame ? 'frame' : 'tab'} ${url.pathname}`

  const follow = (next: string) => navigate(world, navigator, next, onLoad, user)
  const load = (at: string | undefined, label = name) =>
    scheduler.add(`loads: ${label}`, () => onLoad(at), { owner })

  if (url.origin === issuer) {
    if (isFrame && server.kind.silentLogin === 'hangs') return
    const isLost = !world.isOnline || (world.faults.navigationFails() && isFrame)
    if (isLost) return void load(undefined, 'a page of the browser')
    const takes = isFrame || user.isQuick ? 100 : chance.pick(signInTimes)
    scheduler.add(
      `at the server: ${url.pathname}`,
      () => {
        const isLogout = url.pathname === '/logout'
        follow(isLogout ? server.endSession(href) : server.authorize(href, user))
      },
      { in: takes, owner },
    )
    return
  }

  if (!href.startsWith(`${worker.scope}tokenward/`)) return void load(href)

  // Another worker of the origin may answer: an update has come, or a longer scope wins.
  // With the tokens in its memory, the tab would have none.
  const peers = world.workers.filter(({ scope }) => scope === worker.scope && !world.inMemory)
  const answering = peers.length > 0 && chance.is(0.15) ? chance.pick(peers) : worker
  const error = url.searchParams.get('error')
  const code = url.searchParams.get('code')
  // The session that a hidden frame is for; the transaction is gone once it has been answered.
  const transaction = database.readTransaction(url.searchParams.get('state'))
  const session = transaction?.kind === 'silent' ? transaction.session : undefined
  answering.dispatch(
    name,
    async ({ parts }) => {
      if (isFrame) invariants.frameAnswered(session, error)
      const request = {
        url: href,
        method: 'GET',
        mode: 'navigate',
        destination: isFrame ? 'iframe' : 'document',
      } as Request
      const arrival = arrivalOf(request, { waitUntil: () => {}, resultingClientId: pageId })
      const what = parts.intercept(request, arrival.url)
      if (what?.kind !== 'auth-navigation') throw new Error(`The worker declines ${name}`)
      return await parts.authPages(what.page, arrival)
    },
    (result) => {
      // As token-worker.ts does it for a visit that breaks down.
      if (code !== null) invariants.callbackEnded(code)
      const next = 'value' in result ? result.value.headers.get('location') : worker.scope
      if ('error' in result) scheduler.note(`  ${name} fails: ${result.error}`)
      const go = () => {
        // Back, or a reload that somebody could not wait for.
        if (!isFrame && code !== null && chance.is(0.1)) return follow(href)
        return next && !(isFrame && 'error' in result) ? follow(next) : onLoad(href)
      }
      scheduler.add(`answered: ${name}`, go, { owner })
    },
    () => {
      if (isFrame) return
      if (code !== null && chance.is(0.3)) follow(href)
      else load(undefined, 'the inert page')
    },
  )
}
