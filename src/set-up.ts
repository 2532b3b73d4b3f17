import type { Announcements } from './announcements.js'
import { countRound } from './login-loop.js'
import type { OwnWorkers } from './own-workers.js'
import { whenActive, whenControlled } from './register.js'
import type { SessionWatch } from './session-watch.js'
import { asTokenError, fromErrorData, TokenError } from './shared/errors.js'
import { type Hello, PROBE_HEADER } from './shared/protocol.js'
import { withTimeLimit } from './time-limit.js'
import { watchUnlisted } from './unlisted-api.js'
import type { WorkerBridge } from './worker-bridge.js'

declare const DEVELOPMENT: boolean

/** ms in which a worker that could not be installed sends the reason. */
const reasonLimit = 1_000

/** ms that a sign-in waits for `ready`. */
const verdictLimit = 1_000

/** How far this page has come on its way to a worker that controls it. */
export interface SetUp {
  /** Resolves once the worker controls this page and answers its requests first. */
  readonly ready: Promise<void>
  /** Resolves once the worker has reported landing and session, or the set-up has failed. */
  readonly greeted: Promise<unknown>
  /** Rejects if `ready` has found, or soon finds, that no sign-in can come back to this page. */
  hopeful(): Promise<void>
  /** Takes a problem that a worker reports: it may be why the set-up fails. */
  takeProblem(error: TokenError): void
}

/** A sign-in leaves an empty fragment on a page without its own: this takes it off again. */
const removeBareHash = () => {
  if (location.href.endsWith('#')) {
    history.replaceState(history.state, '', location.href.slice(0, -1))
  }
}

/** Greets the active worker. */
const greet = async (found: ServiceWorkerRegistration, bridge: WorkerBridge): Promise<Hello> => {
  await whenActive(found)
  return await bridge.ask('hello').catch((error: TokenError) => {
    if (error.code !== 'worker_timeout') throw error
    throw new TokenError(
      'no_token_worker',
      `The service worker ${found.active?.scriptURL} does not contain tokenward, or an old ` +
        'version without it is still active: close all tabs of the app, or reload.',
    )
  })
}

/** Rejects if the network or another listener answers in place of the worker's listener. */
const probe = async (url: string): Promise<void> => {
  const response = await fetch(url, { cache: 'no-store' }).catch(() => undefined)
  if (response?.headers.has(PROBE_HEADER)) return
  throw new TokenError(
    'worker_order',
    "Another fetch listener of the service worker answers before tokenward's. Call " +
      'createTokenWorker(…).listen() at the top of the worker script, before Workbox or any ' +
      'other code adds a listener.',
  )
}

/** Finds the worker, greets it, takes the landing, takes control and probes. */
export function createSetUp({
  workers,
  bridge,
  announcements,
  watch,
}: {
  workers: OwnWorkers
  bridge: WorkerBridge
  announcements: Announcements
  watch: SessionWatch
}): SetUp {
  let reason: TokenError | undefined
  let onReason = () => {}

  const begin = async () => {
    const found = await workers.registration
    const { channel, landed, landing, probeUrl, apis } = await greet(found, bridge)
    if (DEVELOPMENT && apis) watchUnlisted(apis)
    announcements.open(channel, found.scope)
    if (landed) countRound()
    if (landing) watch.keep({ type: 'problem', error: fromErrorData(landing) })
    await watch.catchUp()
    return { found, probeUrl }
  }

  /** The failure in the worker's own words, if it sends some. */
  const explain = async (cause: unknown): Promise<TokenError> => {
    const error = asTokenError(cause, 'worker_script_failed', 'The service worker set-up failed.')
    // A worker names what is wrong with its options before its installation fails, but the
    // message may arrive after the failure.
    if (error.code === 'worker_script_failed' && workers.found() && !reason) {
      const given = new Promise<void>((resolve) => {
        onReason = resolve
      })
      await withTimeLimit(reasonLimit, given)
    }
    return reason ?? error
  }

  removeBareHash()
  const begun = begin()
  const ready = begun
    .then(async ({ found, probeUrl }) => {
      await whenControlled(found, () => bridge.ask('claim'))
      await probe(probeUrl)
    })
    .catch(async (cause) => {
      throw await explain(cause)
    })
  // An app that does not handle `ready` gets no unhandled rejection.
  ready.catch(() => {})

  return {
    ready,
    greeted: begun.catch(() => {}),
    hopeful: async () => {
      const verdict = ready.catch((error: TokenError) => {
        // Anything else may have passed, or is no obstacle.
        if (/^(out_of_scope|worker_order)$/.test(error.code)) throw error
      })
      await withTimeLimit(verdictLimit, verdict)
    },
    takeProblem: (error) => {
      if (error.code !== 'invalid_configuration') return
      reason = error
      onReason()
    },
  }
}
