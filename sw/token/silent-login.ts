import {
  asTokenError,
  fromErrorData,
  interactionCodes,
  oauthCodes,
  TokenError,
} from '../../src/shared/errors.js'
import type { AuthPage, FrameEnd } from '../../src/shared/protocol.js'
import type { Page, Platform } from '../platform.js'
import { hintOf } from '../session/active-record.js'
import { type ActiveRecord, activeOf, type SessionRecord } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Transactions } from '../sign-in/transactions.js'
import type { Note } from '../trace.js'
import { ageOf } from '../values/age.js'
import { type CallPage, createFramePages, pageCheckInterval } from './frame-page.js'

declare const DEVELOPMENT: boolean

export interface SilentLoginRequest {
  /** `renew` is for the session that is there, `check` also finds a new one. */
  purpose: 'renew' | 'check'
  /** The record as it is now. */
  record?: SessionRecord
  /** The page that asked; it is tried first. */
  page?: string
  /** Leaves out the hint. */
  hintless?: true
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

/** Signs in with a hidden frame and `prompt=none`. */
export type SilentLogin = (request: SilentLoginRequest) => Promise<SilentLoginOutcome>

/** What silent login needs of the configuration. */
export interface SilentLoginConfig {
  authUrls: Readonly<Record<AuthPage, string>>
  root: string
  /** `false`: no frame is ever tried. */
  silentLogin: boolean
  /** ms for one frame */
  silentLoginTimeout: number
}

/** How long, in ms, a code that has arrived may take: a worker that is stopped never ends it. */
const redeemLimit = 15_000
/** All attempts together, in ms: a request waits 30 s. */
const overallLimit = 20_000
/** After so many frames in a row that brought nothing … */
const mostFailures = 3
/** … the next one waits for so long, in ms. */
const restAfterFailures = 300_000

/** Why nothing came back, as likely as can be said from here: for the development build. */
const explainTimeout = (frame: FrameEnd | undefined, isUnused: boolean, limit: number): string => {
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

/** A definitive no: the server wants to see the user (OpenID Connect Core 3.1.2.6). */
const isRefusal = ({ code }: TokenError): boolean =>
  (interactionCodes as readonly string[]).includes(code)

/**
 * May the hint be why the server did not do it? It is too long for the server, or was signed with a
 * key that the server no longer has.
 */
const mayBeTheHint = ({ code }: TokenError): boolean =>
  [...oauthCodes, 'timeout', 'invalid_callback', 'invalid_token_response'].includes(code)

const blocked = (): TokenError =>
  new TokenError(
    'silent_login_blocked',
    "The page's Content-Security-Policy forbids the hidden frame: frame-src needs " +
      "'self' and the authorization server.",
  )

const paused = (): TokenError =>
  new TokenError(
    'silent_login_paused',
    `${mostFailures} hidden frames in a row brought nothing; the next one is tried ` +
      `${restAfterFailures / 60_000} minutes after the last. login() works at any time.`,
  )

const off = (): TokenError =>
  new TokenError(
    'silent_login_off',
    'The option silentLogin is false, so no hidden frame asks the authorization server. ' +
      'session() says who is signed in here; login() works at any time.',
  )

const offline = (): TokenError => new TokenError('offline', 'There is no network.')

const isResting = ({ silentLoginFailed: failed }: ActiveRecord, now: number): boolean =>
  failed !== undefined && failed.times >= mostFailures && ageOf(failed.at, now) < restAfterFailures

interface Parts {
  config: SilentLoginConfig
  transactions: Pick<Transactions, 'begin' | 'outcomeOf' | 'isUnused'>
  session: Pick<WorkerSession, 'readAgain' | 'changeOwn'>
  callPage: CallPage
  platform: Pick<Platform, 'now' | 'wait' | 'online' | 'pages'>
}

/** Tries one page after the other, until the frame of one has brought an answer. */
const createAttempt = ({ config, transactions, session, callPage, platform }: Parts) => {
  const { authUrls, root, silentLoginTimeout: limit } = config
  const { now, wait, online } = platform
  const pages = createFramePages({ root, doneUrl: authUrls.done, limit, callPage, platform })

  const begin = ({ purpose, record, hintless }: SilentLoginRequest): Promise<string> =>
    transactions.begin({
      kind: purpose === 'check' ? 'check' : 'silent',
      returnTo: root,
      session: activeOf(record)?.session,
      params: activeOf(record)?.params,
      generation: record?.generation,
      hintless,
    })

  /** How the transaction ended. The server may have answered, only not in time for the frame. */
  const resultOf = async (ticket: string) => {
    let result = await transactions.outcomeOf(ticket)
    for (let ms = 0; result === 'exchanging' && ms < redeemLimit; ms += pageCheckInterval) {
      await wait(pageCheckInterval)
      result = await transactions.outcomeOf(ticket)
    }
    return result
  }

  const timeout = async (end: FrameEnd | undefined, ticket: string): Promise<TokenError> =>
    new TokenError(
      'timeout',
      DEVELOPMENT
        ? explainTimeout(end, await transactions.isUnused(ticket), limit)
        : 'Nothing came back from the hidden frame.',
    )

  /** Runs the frame in one page. Without an outcome, the next page may bring one. */
  const tryIn = async (
    page: Page,
    request: SilentLoginRequest,
  ): Promise<{ outcome?: SilentLoginOutcome; isGone?: boolean }> => {
    const ticket = await begin(request)
    const end = await pages.run(page, `${authUrls.silent}?ticket=${ticket}`)
    const result = await resultOf(ticket)
    if (result === 'signed-in') {
      const record = activeOf(await session.readAgain())
      return { outcome: record ? { kind: 'signed-in', record } : { kind: 'superseded' } }
    }
    if (typeof result === 'object') {
      const error = fromErrorData(result.error)
      if (error.code === 'user_changed') return { outcome: { kind: 'superseded' } }
      return { outcome: { kind: isRefusal(error) ? 'refused' : 'failed', error } }
    }
    if (end === 'gone') return { isGone: true }
    // A sign-out takes away what was under way, also where nobody was signed in.
    const latest = await session.readAgain()
    const isOver = !activeOf(latest) && latest?.generation !== request.record?.generation
    if (isOver) return { outcome: { kind: 'superseded' } }
    const error = end?.end === 'blocked' ? blocked() : await timeout(end, ticket)
    // The next page would meet the same policy and the same server, but need not be frozen.
    return { outcome: { kind: 'failed', error }, isGone: end === undefined }
  }

  return async (request: SilentLoginRequest): Promise<SilentLoginOutcome> => {
    if (!online()) return { kind: 'failed', error: offline() }
    let last: SilentLoginOutcome = {
      kind: 'failed',
      error: new TokenError('no_page', 'No page of the app is open that could sign in silently.'),
    }
    const found = await pages.find(request.page)
    const startedAt = now()
    for (const page of found) {
      if (now() - startedAt > overallLimit - limit) break
      const { outcome, isGone } = await tryIn(page, request)
      last = outcome ?? last
      if (!isGone) break
    }
    return last
  }
}

/** Creates the silent login: a page runs a hidden frame, the worker takes the answer. */
export function createSilentLogin(parts: Parts & { note?: Note }): SilentLogin {
  const { session, note } = parts
  const { now, online } = parts.platform
  const attempt = createAttempt(parts)

  /** Counts what brought nothing; the next sign-in of any kind starts anew. */
  const count = (record: ActiveRecord, hintRefused: true | undefined) =>
    session.changeOwn(record.session, (current) => ({
      ...current,
      silentLoginFailed: { times: (current.silentLoginFailed?.times ?? 0) + 1, at: now() },
      hintRefused: hintRefused || current.hintRefused,
    }))

  /** Tries with the hint and, if that may be why it failed, once more without. */
  const attemptBoth = async (request: SilentLoginRequest) => {
    const record = activeOf(request.record)
    const hint = hintOf(record)
    let outcome = await attempt(request)
    let hintless = !hint && record?.idToken !== undefined
    // Silence that goes on has another reason, and each frame that it takes costs the user its time.
    const isRetried =
      hint &&
      outcome.kind === 'failed' &&
      mayBeTheHint(outcome.error) &&
      !(outcome.error.code === 'timeout' && record?.silentLoginFailed)
    if (isRetried) {
      hintless = true
      outcome = await attempt({ ...request, hintless: true })
    }
    const hintRefused = (isRetried && outcome.kind === 'refused') || undefined
    // That it does not know which user is meant is no answer about this one.
    if (hintless && outcome.kind === 'refused' && outcome.error.code !== 'login_required') {
      outcome = { ...outcome, kind: 'failed' }
    }
    return { outcome, hintRefused }
  }

  return async (request) => {
    if (!parts.config.silentLogin) return { kind: 'failed', error: online() ? off() : offline() }
    // An app that asks by itself gets an answer each time.
    const renewed = request.purpose === 'renew' ? activeOf(request.record) : undefined
    if (renewed && isResting(renewed, now())) return { kind: 'failed', error: paused() }
    note?.('silent-login')
    // A frame that cannot even begin, for want of a disk, is one that brings nothing.
    const { outcome, hintRefused } = await attemptBoth(request).catch(
      (cause): Awaited<ReturnType<typeof attemptBoth>> => {
        const error = asTokenError(cause, 'worker_timeout', 'The hidden frame failed.')
        return { outcome: { kind: 'failed', error }, hintRefused: undefined }
      },
    )
    if ('error' in outcome) {
      const { code } = outcome.error
      note?.('silent-login-failed', { code })
      if (renewed && code !== 'offline' && code !== 'no_page') await count(renewed, hintRefused)
    } else note?.('silent-login-done')
    return outcome
  }
}
