import { asTokenError, TokenError, toErrorData } from '../../src/shared/errors.js'
import type { Hello } from '../../src/shared/protocol.js'
import { type Config, protocolParams } from '../options/options.js'
import type { Platform } from '../platform.js'
import type { AuthorizationServer, SignIn } from '../server/authorization-server.js'
import type { Dpop } from '../server/dpop.js'
import { type WorkerSession, withTokens } from '../session/session.js'
import type { ActiveRecord, Outcome, SessionRecord, Transaction } from '../session/store.js'
import type { Note } from '../trace.js'
import { emptyPage, redirectBack, redirectTo } from './auth-response.js'
import { keyOf, safeReturnTo, type Transactions } from './transactions.js'

/** A navigation that the worker answers, and the page that will show the result. */
export interface Visit {
  url: URL
  request: Request
  /** Client id of the page that the answer leads to, where the browser tells. */
  pageId: string
}

const longestCode = 4096

/**
 * Parameters with which a page could widen what was configured. `login_hint` is none of them: it
 * is about one user, so a worker script cannot have it, and the server decides what it is worth.
 */
const notFromPages: ReadonlySet<string> = new Set([...protocolParams, 'audience'])

const checkParams = (params: Record<string, string> = {}): Record<string, string> => {
  // Some servers ignore case in names, others read `a.b` and `a[b` as `a_b`.
  const isRefused = (name: string) => notFromPages.has(name.toLowerCase()) || !/^[\w-]+$/.test(name)
  const refused = Object.keys(params).find(isRefused)
  if (refused === undefined) return params
  throw new TokenError(
    'invalid_input',
    `login({ params }) must not contain ${refused}: only the worker script sets it.`,
  )
}

/** Is this a well-formed answer (RFC 6749 4.1.2), each parameter there once at most? */
const isWellFormed = (params: URLSearchParams): boolean => {
  const once = ['state', 'code', 'error', 'iss'].every((name) => params.getAll(name).length <= 1)
  const code = params.get('code')
  const hasOne = (code !== null) !== params.has('error')
  const implicit = params.has('access_token') || params.has('id_token')
  return once && hasOne && !implicit && code !== '' && (code?.length ?? 0) <= longestCode
}

/** Signing in: out through `login.html` or `silent.html`, back through the callback. */
export const createLogin = (
  config: Pick<Config, 'authUrls' | 'root' | 'scope' | 'authorizationParams'>,
  server: Pick<
    AuthorizationServer,
    'authorizationUrl' | 'newSecrets' | 'redeem' | 'randomValue' | 'protocolEndpoints' | 'revoke'
  >,
  transactions: Transactions,
  session: WorkerSession,
  { now, online }: Pick<Platform, 'now' | 'online'>,
  note?: Note,
  dpop?: Pick<Dpop, 'keyFor'>,
) => {
  const { root, authUrls } = config

  const isSilent = ({ kind }: Transaction): boolean => kind === 'silent' || kind === 'check'

  /** The hint helps a server that knows several users to answer for the right one. */
  const silentParams = async (): Promise<Record<string, string>> => {
    const record = await session.read()
    const hint = record?.status === 'active' && record.idToken
    return hint ? { prompt: 'none', id_token_hint: hint } : { prompt: 'none' }
  }

  const interrupted = (cause?: unknown): TokenError =>
    asTokenError(cause, 'login_interrupted', 'Signing in was cut off in the worker. Try again.')

  /** Ends a visit that failed: a hidden frame just ends, a tab lands in the app and is told. */
  const failVisit = async (visit: Visit, returnTo: string, error: TokenError, silent = false) => {
    if (silent || visit.request.destination === 'iframe') return redirectBack(authUrls.done)
    await transactions.leaveForPage(visit.pageId, returnTo, { error: toErrorData(error) })
    return redirectBack(returnTo)
  }

  /** The record that a sign-in leads to, from the one that is there at that moment. */
  const nextRecord = (
    current: SessionRecord | undefined,
    transaction: Transaction,
    signIn: SignIn,
    user: string,
  ): SessionRecord | undefined => {
    const active = current?.status === 'active' ? current : undefined
    const silent = isSilent(transaction)
    // Signed out, or in as somebody else, while the hidden frame was under way.
    if (silent && active?.session !== transaction.session) return
    // Signed in and out again since then: a late answer must not undo that.
    if (silent && !active && current?.generation !== transaction.generation) return
    // Signed out while the code was redeemed: before that, the sign-out takes the transaction.
    const isOut = current?.status === 'ended' && current.reason === 'logout'
    if (isOut && current.generation > (transaction.generation ?? Infinity)) return
    if (silent && active && active.subject !== signIn.subject) {
      return { status: 'ended', generation: 0, reason: 'user_changed' }
    }
    const base: ActiveRecord =
      silent && active
        ? active
        : {
            status: 'active',
            generation: 0,
            session: server.randomValue(),
            since: now(),
            claims: {},
            scope: config.scope,
            accessTokenIssuedAt: 0,
            protocolEndpoints: [],
            silentLoginWorks: active?.silentLoginWorks,
            user,
          }
    const dpopKey = transaction.sent?.dpopKey
    // A refresh token that is bound to another key is worth nothing.
    const isSameKey = base.dpopKey?.jkt === dpopKey?.jkt
    const kept = isSameKey ? base : { ...base, dpopKey, refreshToken: undefined }
    return {
      ...withTokens(kept, signIn),
      claims: { ...base.claims, ...signIn.claims },
      protocolEndpoints: server.protocolEndpoints(),
      subject: signIn.subject,
      idToken: signIn.idToken ?? base.idToken,
      silentLoginWorks: silent || base.silentLoginWorks,
      silentLoginFailed: undefined,
    }
  }

  const signIn = async (transaction: Transaction, answer: SignIn): Promise<void> => {
    // Without a subject, nobody can say that it is the same user again.
    const user = await keyOf(answer.subject ?? server.randomValue())
    const { before, after } = await session.change((current) =>
      nextRecord(current, transaction, answer, user),
    )
    if (after === before) {
      // Signed out meanwhile. Where somebody is signed in, the two may share a grant.
      if (after?.status !== 'active' && answer.refreshToken)
        await server.revoke(answer.refreshToken)
      throw new TokenError('user_changed', 'The session changed while this was under way.')
    }
    const previous = before?.status === 'active' ? before : undefined
    if (after?.status !== 'active') {
      await session.tellEnded('user_changed')
      if (previous?.refreshToken) await server.revoke(previous.refreshToken)
      throw new TokenError('user_changed', 'The authorization server knows another user.')
    }
    note?.('signed-in')
    const isOther = previous && previous.subject !== after.subject
    if (isOther) await session.tellEnded('user_changed')
    await session.tell(previous?.session === after.session ? 'renewed' : 'signed-in', after)
    if (isOther && previous.refreshToken) await server.revoke(previous.refreshToken)
  }

  /** Somebody comes with an answer that was dealt with before: Back, reload, a second send. */
  const arriveAgain = async (
    visit: Visit,
    { returnTo, result, createdAt }: Outcome,
  ): Promise<Response> => {
    const current = await session.read()
    const isIn = current?.status === 'active'
    // A worker that is stopped at the very end has signed in, and could not write that down here.
    if (isIn && (result === 'signed-in' || current.since >= createdAt))
      return redirectBack(returnTo)
    const error = new TokenError(
      'login_interrupted',
      'This answer of the authorization server has been used already. Sign in again.',
    )
    return await failVisit(visit, returnTo, error)
  }

  return {
    /** Begins a sign-in for a page; the answer is the URL to navigate to. */
    begin: async (input: {
      returnTo: string
      params?: Record<string, string>
    }): Promise<{ url: string }> => {
      const returnTo = safeReturnTo(input.returnTo, root, Object.values(authUrls))
      const params = checkParams(input.params)
      if (!online()) throw new TokenError('offline', 'Signing in needs the network.')
      const generation = (await session.readAgain())?.generation ?? 0
      const ticket = await transactions.begin({ kind: 'login', returnTo, params, generation })
      return { url: `${authUrls.login}?ticket=${ticket}` }
    },

    /** `login.html` and `silent.html`: a ticket is traded for the way to the server. */
    leave: async (visit: Visit, page: 'login' | 'silent'): Promise<Response> => {
      const key = dpop?.keyFor(page === 'silent' ? await session.read() : undefined)
      const secrets = { ...server.newSecrets(), dpopKey: await key }
      const kinds = page === 'login' ? (['login'] as const) : (['silent', 'check'] as const)
      const ticket = visit.url.searchParams.get('ticket')
      const departure = await transactions.depart(ticket, kinds, secrets)
      if (!departure) return redirectBack(page === 'login' ? root : authUrls.done)
      const { state, transaction } = departure
      const silent = isSilent(transaction)
      if (!silent) note?.('login')
      try {
        // Once more, since pages can write to the database too.
        const params = silent ? await silentParams() : checkParams(transaction.params)
        return redirectTo(await server.authorizationUrl(state, secrets, params))
      } catch (cause) {
        const error = interrupted(cause)
        await transactions.arrive(state)
        await transactions.finish(state, transaction, { error: toErrorData(error) })
        return await failVisit(visit, transaction.returnTo, error, silent)
      }
    },

    /** The callback: the code is taken and redeemed here and nowhere else. */
    arrive: async (visit: Visit): Promise<Response> => {
      const params = visit.url.searchParams
      const state = visit.request.method === 'GET' ? (params.get('state') ?? undefined) : undefined
      const transaction = await transactions.arrive(state)
      if (state === undefined || !transaction || transaction.kind === 'logout') {
        const error = new TokenError(
          'unsolicited_callback',
          'An answer of the authorization server arrived that nothing here had asked for.',
        )
        return await failVisit(visit, root, error)
      }
      if (transaction.kind === 'outcome') return await arriveAgain(visit, transaction)
      const silent = isSilent(transaction)
      try {
        if (!isWellFormed(params) || !transaction.sent) {
          throw new TokenError(
            'invalid_callback',
            'The answer of the authorization server is malformed.',
          )
        }
        const asked = { ...config.authorizationParams, ...transaction.params }
        await signIn(transaction, await server.redeem(params, state, transaction.sent, asked))
        await transactions.finish(state, transaction, 'signed-in')
      } catch (cause) {
        const error = interrupted(cause)
        await transactions.finish(state, transaction, { error: toErrorData(error) })
        return await failVisit(visit, transaction.returnTo, error, silent)
      }
      if (silent) return redirectBack(authUrls.done)
      const { returnTo } = transaction
      await transactions.leaveForPage(visit.pageId, returnTo, 'signed-in').catch(() => {})
      return redirectBack(returnTo)
    },

    /** Has a sign-in landed at this page, and what is the page to be told of it? */
    landing: async (pageId: string): Promise<Pick<Hello, 'landed' | 'landing'>> => {
      const result = await transactions.takeForPage(pageId)
      if (result) {
        return { landed: true, landing: typeof result === 'object' ? result.error : undefined }
      }
      // Where the worker is stopped on the way, the browser lands at the network's callback page,
      // and comes here by its link.
      const record = await session.read()
      const since = record?.status === 'active' ? record.since : 0
      const error = toErrorData(interrupted())
      return (await transactions.settleInterrupted(since, error)) ? { landing: error } : {}
    },

    /** `done.html`, where a hidden frame ends. */
    finish: (): Response => emptyPage(),
  }
}

export type Login = ReturnType<typeof createLogin>
