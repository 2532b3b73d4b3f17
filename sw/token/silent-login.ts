import { fromErrorData, TokenError } from '../../src/shared/errors.js'
import type { FrameEnd, PageCalls } from '../../src/shared/protocol.js'
import type { Page, Platform } from '../platform.js'
import type { WorkerSession } from '../session/session.js'
import type { ActiveRecord, SessionRecord } from '../session/store.js'
import type { Transactions } from '../sign-in/transactions.js'
import type { Note } from '../trace.js'

export interface SilentLoginRequest {
  /** `renew` is for the session that is there, `check` also finds a new one. */
  purpose: 'renew' | 'check'
  /** The record as it is now. */
  record?: SessionRecord
  /** The page that asked; it is tried first. */
  page?: string
}

/** How a silent login ends. */
export type SilentLoginOutcome =
  | { kind: 'signed-in'; record: ActiveRecord }
  /** The session was ended or replaced meanwhile. */
  | { kind: 'superseded' }
  /** The server's definitive no: it wants to see the user. */
  | { kind: 'refused'; error: TokenError }
  /** It could not be done now; this says nothing about the user. */
  | { kind: 'failed'; error: TokenError }

/** Answers to `prompt=none` that mean: only with the user (OpenID Connect Core 3.1.2.6). */
const refusals: ReadonlySet<string> = new Set([
  'account_selection_required',
  'consent_required',
  'interaction_required',
  'login_required',
])

/** How long pages have, in ms, to say that they can open a frame. */
const probeLimit = 1_000
/** How often, in ms, it is checked that the page with the frame is still there. */
const pageCheckInterval = 500
/** How long, in ms, a code that has arrived may take: a worker that is stopped never ends it. */
const redeemLimit = 15_000
/** All attempts together, in ms: whoever waits for this has 30 s. */
const overallLimit = 20_000
/** After so many frames in a row that brought nothing … */
const mostFailures = 3
/** … there is none for so long, in ms. */
const restAfterFailures = 300_000

/** Why nothing came back, as likely as can be said from here. */
const timeoutMessage = (frame: FrameEnd | undefined, isUnused: boolean, limit: number): string => {
  if (!frame) return 'The page with the hidden frame gave no answer: it may have been frozen.'
  if (isUnused) {
    return (
      'The hidden frame never got to the worker: an ad blocker, the Content-Security-Policy or ' +
      'the Cross-Origin-Embedder-Policy of the page may have stopped it.'
    )
  }
  if (!frame.loaded) {
    return `The authorization server did not answer in a hidden frame within ${limit / 1000} s.`
  }
  if (frame.isolated) {
    return (
      'This page is cross-origin isolated, and the authorization server does not send ' +
      'Cross-Origin-Resource-Policy: cross-origin.'
    )
  }
  return (
    'The authorization server showed a page in the hidden frame instead of sending it back: it ' +
    'refuses the request (its log says why), does not know prompt=none, or forbids frames ' +
    '(X-Frame-Options, frame-ancestors). Or an ad blocker or the browser stopped the frame.'
  )
}

/** Silent login: a page runs a hidden frame with `prompt=none`, the worker takes the answer. */
export const createSilentLogin = (
  {
    silentUrl,
    doneUrl,
    root,
    limit,
  }: {
    silentUrl: string
    doneUrl: string
    root: string
    /** ms for one frame */
    limit: number
  },
  transactions: Pick<Transactions, 'begin' | 'outcomeOf' | 'isUnused'>,
  session: Pick<WorkerSession, 'readAgain' | 'changeOwn'>,
  callPage: <Name extends keyof PageCalls>(
    page: Page,
    name: Name,
    input: Parameters<PageCalls[Name]>[0],
    limit: number,
  ) => Promise<Awaited<ReturnType<PageCalls[Name]>> | undefined>,
  { now, wait, online, pages }: Pick<Platform, 'now' | 'wait' | 'online' | 'pages'>,
  note?: Note,
) => {
  /** The pages that can open a frame now, the best one first. */
  const findPages = async (preferred: string | undefined): Promise<Page[]> => {
    const open = (await pages.list(root)).filter(({ topLevel }) => topLevel)
    const probed = await Promise.all(
      open.map(async (page) => {
        const probe = await callPage(page, 'probe', undefined, probeLimit).catch(() => undefined)
        const rank =
          (page.id === preferred ? 4 : 0) + (probe?.visible ? 2 : 0) + (page.focused ? 1 : 0)
        return { page, able: probe?.able, rank }
      }),
    )
    return probed
      .filter(({ able }) => able)
      .sort((a, b) => b.rank - a.rank)
      .map(({ page }) => page)
  }

  /** Resolves once the page is gone; stops looking when `stop` is aborted. */
  const whenGone = async (page: Page, stop: AbortSignal): Promise<'gone'> => {
    do await wait(pageCheckInterval, stop)
    while (await pages.exists(page.id))
    return 'gone'
  }

  const runIn = async (
    page: Page,
    { purpose, record }: SilentLoginRequest,
  ): Promise<{ end: FrameEnd | 'gone' | undefined; ticket: string }> => {
    const ticket = await transactions.begin({
      kind: purpose === 'check' ? 'check' : 'silent',
      returnTo: root,
      session: record?.status === 'active' ? record.session : undefined,
      generation: record?.generation,
    })
    const stop = new AbortController()
    try {
      const frame = callPage(
        page,
        'openFrame',
        { url: `${silentUrl}?ticket=${ticket}`, doneUrl, limit },
        limit + probeLimit,
      )
      return { end: await Promise.race([frame, whenGone(page, stop.signal)]), ticket }
    } finally {
      stop.abort()
    }
  }

  const attempt = async (request: SilentLoginRequest): Promise<SilentLoginOutcome> => {
    if (!online()) {
      return { kind: 'failed', error: new TokenError('offline', 'There is no network.') }
    }
    let error = new TokenError('no_page', 'No page of the app is open that could sign in silently.')
    const found = await findPages(request.page)
    const startedAt = now()
    for (const page of found) {
      if (now() - startedAt > overallLimit - limit) break
      const { end, ticket } = await runIn(page, request)
      let result = await transactions.outcomeOf(ticket)
      // The server has answered, only not in time for the frame.
      for (let ms = 0; result === 'exchanging' && ms < redeemLimit; ms += pageCheckInterval) {
        await wait(pageCheckInterval)
        result = await transactions.outcomeOf(ticket)
      }
      if (result === 'signed-in') {
        const record = await session.readAgain()
        return record?.status === 'active' ? { kind: 'signed-in', record } : { kind: 'superseded' }
      }
      if (typeof result === 'object') {
        const refused = fromErrorData(result.error)
        if (refused.code === 'user_changed') return { kind: 'superseded' }
        return { kind: refusals.has(refused.code) ? 'refused' : 'failed', error: refused }
      }
      if (end === 'gone') continue
      // A sign-out takes away what was under way.
      const isOver = (await session.readAgain())?.status !== 'active'
      if (isOver && request.record?.status === 'active') return { kind: 'superseded' }
      error =
        end?.end === 'blocked'
          ? new TokenError(
              'silent_login_blocked',
              "The page's Content-Security-Policy forbids the hidden frame: frame-src needs " +
                "'self' and the authorization server.",
            )
          : new TokenError(
              'timeout',
              timeoutMessage(end, await transactions.isUnused(ticket), limit),
            )
      // The next page would meet the same policy and the same server.
      if (end) break
    }
    return { kind: 'failed', error }
  }

  const isResting = ({ silentLoginFailed: failed }: ActiveRecord): boolean => {
    if (!failed || failed.times < mostFailures) return false
    const age = now() - failed.at
    return age >= 0 && age < restAfterFailures
  }

  /** Counts a frame that brought nothing; the next sign-in of any kind starts anew. */
  const count = (record: ActiveRecord) =>
    session.changeOwn(record.session, (current) => ({
      ...current,
      silentLoginFailed: { times: (current.silentLoginFailed?.times ?? 0) + 1, at: now() },
    }))

  return async (request: SilentLoginRequest): Promise<SilentLoginOutcome> => {
    const { purpose, record } = request
    // An app that asks by itself gets an answer each time.
    const renewed = purpose === 'renew' && record?.status === 'active' ? record : undefined
    if (renewed && isResting(renewed)) {
      const error = new TokenError(
        'silent_login_paused',
        `${mostFailures} hidden frames in a row brought nothing; the next one is tried ` +
          `${restAfterFailures / 60_000} minutes after the last. login() works at any time.`,
      )
      return { kind: 'failed', error }
    }
    note?.('silent-login')
    const outcome = await attempt(request)
    if ('error' in outcome) {
      const { code } = outcome.error
      note?.('silent-login-failed', { code })
      if (renewed && code !== 'offline' && code !== 'no_page') await count(renewed)
    } else note?.('silent-login-done')
    return outcome
  }
}

export type SilentLogin = ReturnType<typeof createSilentLogin>
