import * as oauth from 'oauth4webapi'
import { TokenError } from '../../src/shared/errors.js'
import { copyOf } from '../http/request-copy.js'
import type { Platform } from '../platform.js'
import type { ActiveRecord, SessionRecord, Store } from '../session/store.js'
import { madeUp } from '../sign-in/auth-response.js'
import { readBody } from './authorization-server.js'

/** A key pair that tokens are bound to (RFC 9449). */
export interface DpopKey {
  /** Names the key: the thumbprint of its public half (RFC 7638). */
  jkt: string
  /** The public half, as proofs show it. */
  jwk: { crv: string; kty: string; x: string; y: string }
  /**
   * The private half: it signs, and cannot be exported. Absent where the browser cannot store it,
   * and in a transaction for the session that there is, which has it.
   */
  privateKey?: CryptoKey
}

/** What lies in the database beside the keys. */
export interface DpopState {
  /** The newest nonce of each origin (RFC 9449 8.2). */
  nonces: Record<string, string>
  /** Only there while it is tried whether keys can be stored; it signs nothing. */
  probe?: CryptoKey
}

/** Binds tokens to a key that cannot leave the browser, and proves with it who sends them. */
export interface Dpop {
  /** Is the private half of this key here? Tokens that are bound to another one are worth nothing. */
  canUse(key: DpopKey | undefined): boolean
  /** The key for a sign-in: that of the session in `record`, or a new one. */
  keyFor(record: SessionRecord | undefined): Promise<DpopKey>
  /** The record has changed: forgets what belonged to a session that is over. */
  changed(before: SessionRecord | undefined, after: SessionRecord | undefined): void
  /**
   * Sends a request with a proof: with an access token to an API, without one to the token
   * endpoint. Once more each for a missing nonce, a wrong clock, and a proof that the browser
   * itself has sent twice; the last answer is handed through.
   */
  fetch(
    input: Request | string,
    init: RequestInit,
    key: DpopKey | undefined,
    accessToken?: string,
  ): Promise<Response>
  /**
   * What makes a request one with this access token and a proof, for code that sends it by itself.
   *
   * @throws TypeError if the key is gone
   */
  prove(
    request: Request,
    init: RequestInit,
    key: DpopKey | undefined,
    accessToken: string,
  ): Promise<RequestInit>
  /** Takes note of a nonce in the answer to a request that other code has sent (RFC 9449 8.2). */
  hear(response: Response, origin: string): void
}

/** What {@link dpop} makes, for the option `dpop`. */
export type DpopOption = (
  store: Pick<Store, 'read' | 'readDpop' | 'writeDpop'>,
  platform: Pick<Platform, 'fetch' | 'now'>,
  tellProblem: (error: TokenError) => Promise<void>,
) => Dpop

/** A clock further off than this, in s, is not made up for: proofs would last too long. */
const mostSkew = 600

/**
 * A nonce as RFC 9449 8.1 has it. No longer one is taken from the disk: a script may have put it
 * there, and a header that no server reads would be answered with no other nonce.
 */
const storedNonce = /^[!#-[\]-~]{1,2000}$/

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }

const newPair = () => crypto.subtle.generateKey(ecdsa, false, ['sign', 'verify'])

const base64url = (data: string | ArrayBuffer): string => {
  const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data)
  const text = btoa(String.fromCharCode(...bytes))
  return text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
}

/** Which session a record is about, if there is one. */
const sessionOf = (record: SessionRecord | undefined): Partial<ActiveRecord> =>
  record?.status === 'active' ? record : {}

/**
 * Binds the tokens to a key pair of this browser (DPoP, RFC 9449), for the option `dpop`: whoever
 * gets hold of a token, or reads it from the disk, cannot use it without the key, and the key's
 * private half cannot be exported. The authorization server has to issue such tokens, and each
 * API has to check them: docs/recipes.md.
 *
 * @example
 * createTokenWorker({ issuer, clientId, apis, dpop: dpop() }).listen({ claim: true })
 *
 * @see https://www.rfc-editor.org/rfc/rfc9449
 */
export const dpop = (): DpopOption => (store, platform, tellProblem) => {
  const { now } = platform
  const nonces = new Map<string, string>()
  /** How far the clock of an origin is ahead of ours, in s. */
  const ahead = new Map<string, number>()
  /** Keys that the browser cannot store. They end with this worker. */
  const held = new Map<string, CryptoKey>()
  /** Keys with which the browser does not sign. */
  const broken = new Set<string>()
  const told = new Set<string>()
  /** Answers in a row, by origin, that refuse and do not let us read why. */
  const unread = new Map<string, number>()
  let loading: Promise<void> | undefined
  let storable: Promise<boolean> | undefined
  let saving = false
  let unsaved = false

  const tellOnce = (error: TokenError) => {
    if (told.has(error.message)) return
    told.add(error.message)
    tellProblem(error).catch(() => {})
  }

  /** What another life of this worker has heard. */
  const load = () => {
    loading ??= store
      .readDpop()
      .then((state) => {
        for (const [origin, nonce] of Object.entries(state?.nonces ?? {})) {
          const isOne = typeof nonce === 'string' && storedNonce.test(nonce)
          if (isOne && !nonces.has(origin)) nonces.set(origin, nonce)
        }
      })
      .catch(() => {})
    return loading
  }

  const state = (): DpopState => ({ nonces: Object.fromEntries(nonces) })

  /** One write at a time: an API may send a new nonce with each answer. */
  const save = async (): Promise<void> => {
    unsaved = true
    if (saving) return
    saving = true
    while (unsaved) {
      unsaved = false
      // A nonce that is lost costs one more request.
      await store.writeDpop(state()).catch(() => {})
    }
    saving = false
  }

  const canUse = (key: DpopKey | undefined): boolean =>
    // A script may have put null there.
    !!key && !broken.has(key.jkt) && (key.privateKey?.extractable === false || held.has(key.jkt))

  /** Some browsers, in some modes, refuse to store keys at all. */
  const canStore = (): Promise<boolean> => {
    storable ??= (async () => {
      try {
        await load()
        await store.writeDpop({ ...state(), probe: (await newPair()).privateKey })
        await store.writeDpop(state())
        return true
      } catch (error) {
        // Where nothing can be stored, the sign-in will say so.
        return ((error as TokenError).cause as Error | undefined)?.name !== 'DataCloneError'
      }
    })()
    return storable
  }

  /** Undefined: it is gone, and what is bound to it is worth nothing. */
  const sign = async (
    key: DpopKey | undefined,
    { origin, pathname }: URL,
    method: string,
    accessToken: string | undefined,
  ): Promise<string | undefined> => {
    if (!key) return
    const { jkt, jwk } = key
    let privateKey = key.privateKey ?? held.get(jkt)
    if (!privateKey) {
      // Outside of what follows: a disk that fails says nothing about the key.
      const { dpopKey } = sessionOf(await store.read())
      if (dpopKey?.jkt === jkt) privateKey = dpopKey.privateKey
    }
    try {
      const header = { typ: 'dpop+jwt', alg: 'ES256', jwk }
      const claims = {
        jti: oauth.generateRandomState(),
        htm: method,
        htu: origin + pathname,
        iat: Math.floor(now() / 1000) + (ahead.get(origin) ?? 0),
        ath: accessToken && (await oauth.calculatePKCECodeChallenge(accessToken)),
        nonce: nonces.get(origin),
      }
      const input = [header, claims].map((part) => base64url(JSON.stringify(part))).join('.')
      const bytes = new TextEncoder().encode(input)
      return `${input}.${base64url(await crypto.subtle.sign(ecdsa, privateKey as CryptoKey, bytes))}`
    } catch {
      broken.add(jkt)
      return
    }
  }

  /** Without the key: as if the server had refused what is bound to it. */
  const withoutKey = (accessToken: string | undefined, isRefresh: boolean): Response => {
    if (accessToken) return madeUp(401, 'The DPoP key is gone', { 'cache-control': 'no-store' })
    if (isRefresh) return Response.json({ error: 'invalid_grant' }, { status: 400 })
    throw new TokenError(
      'login_interrupted',
      'The DPoP key of this sign-in is gone. Sign in again.',
    )
  }

  /** Why a request was refused, as far as it can be read. */
  const errorIn = async (response: Response, accessToken: string | undefined): Promise<string> => {
    if (response.ok) return ''
    if (accessToken) return response.headers.get('www-authenticate') ?? ''
    try {
      return String(JSON.parse(await readBody(response.clone())).error)
    } catch {
      return ''
    }
  }

  const tellHidden = (origin: string) =>
    tellOnce(
      new TokenError(
        'cors_expose_headers',
        `${origin} refuses requests, and its answer cannot be read. If it demands DPoP nonces, it ` +
          'must send "Access-Control-Expose-Headers: DPoP-Nonce, WWW-Authenticate".',
      ),
    )

  /** Sets our idea of an origin's clock right; false if it was, or cannot be. */
  const setClock = (origin: string, date: string | null, sentAt: number): boolean => {
    // biome-ignore lint/style/noRestrictedGlobals: it reads a text here, not the clock.
    const time = Date.parse(date ?? '')
    // The header has whole seconds, and was written at some time since the request was sent.
    const least = Math.floor((time - now()) / 1000)
    const most = Math.ceil((time + 1000 - sentAt) / 1000)
    const known = ahead.get(origin) ?? 0
    if (!(known < least || known > most)) return false
    if (Math.abs(least) > mostSkew) {
      const minutes = mostSkew / 60
      tellOnce(
        new TokenError(
          'clock',
          `This device's clock is more than ${minutes} minutes off that of ${origin}. Set it right.`,
        ),
      )
      return false
    }
    // A proof may be old, but no server takes one of the future.
    ahead.set(origin, least)
    return true
  }

  const hear = ({ headers }: Response, origin: string): string | null => {
    const nonce = headers.get('dpop-nonce')
    if (nonce !== null && nonce !== nonces.get(origin)) {
      nonces.set(origin, nonce)
      save()
    }
    return nonce
  }

  /** The reason to send the request once more with a new proof, if there is one. */
  const reasonToRepeat = async (
    response: Response,
    origin: string,
    sent: { nonce: string | undefined; at: number },
    accessToken: string | undefined,
    isRefresh: boolean,
  ): Promise<'nonce' | 'clock' | 'resent' | undefined> => {
    const { headers, status } = response
    const nonce = hear(response, origin)
    const error = await errorIn(response, accessToken)
    const isUnread = accessToken && status === 401 && !error && response.type === 'cors'
    if (isUnread && nonce === null) {
      // An expired token is refused like that too, but not the new one right after it.
      unread.set(origin, (unread.get(origin) ?? 0) + 1)
      if (unread.get(origin) === 2) tellHidden(origin)
      return
    }
    unread.delete(origin)
    if (error.includes('use_dpop_nonce') || (isUnread && nonce !== sent.nonce)) {
      if (nonce !== null) return 'nonce'
      tellHidden(origin)
    }
    // The browser may have sent a proof twice by itself. A refresh token bears to be sent again; an
    // order at an API, or a code, may have been taken the first time.
    if (error.includes('invalid_dpop_proof')) {
      if (setClock(origin, headers.get('date'), sent.at)) return 'clock'
    } else if (error !== 'invalid_grant') return
    return isRefresh ? 'resent' : undefined
  }

  const withProof = (
    input: Request | string,
    init: RequestInit,
    proof: string,
    accessToken: string | undefined,
  ): RequestInit => {
    const headers = new Headers(init.headers)
    headers.set('dpop', proof)
    if (accessToken) headers.set('authorization', `DPoP ${accessToken}`)
    const isManual = typeof input !== 'string' && input.redirect === 'manual'
    // A redirect would take the proof along, to another origin too.
    return { ...init, headers, redirect: isManual ? 'manual' : 'error' }
  }

  return {
    canUse,
    hear,

    prove: async (request, init, key, accessToken) => {
      await load()
      const proof = await sign(key, new URL(request.url), request.method, accessToken)
      if (!proof) throw new TypeError('The DPoP key is gone.')
      return withProof(request, init, proof, accessToken)
    },

    keyFor: async (record) => {
      const { dpopKey } = sessionOf(record)
      if (dpopKey && canUse(dpopKey)) return { jkt: dpopKey.jkt, jwk: dpopKey.jwk }
      const { privateKey, publicKey } = await newPair()
      const { crv, kty, x, y } = await crypto.subtle.exportKey('jwk', publicKey)
      // In the order of the thumbprint (RFC 7638 3.2).
      const jwk = { crv, kty, x, y } as DpopKey['jwk']
      const jkt = await oauth.calculatePKCECodeChallenge(JSON.stringify(jwk))
      if (await canStore()) return { jkt, jwk, privateKey }
      held.set(jkt, privateKey)
      tellOnce(
        new TokenError(
          'storage_failed',
          'This browser does not store keys, so the tokens are lost whenever it stops the worker.',
        ),
      )
      return { jkt, jwk }
    },

    changed: (before, after) => {
      const old = sessionOf(before)
      const { session, dpopKey } = sessionOf(after)
      if (old.session === session || !old.dpopKey) return
      if (old.dpopKey.jkt !== dpopKey?.jkt) held.delete(old.dpopKey.jkt)
      // They are for the server to choose, so they could tell it who was here before.
      nonces.clear()
      save()
    },

    fetch: async (input, init, key, accessToken) => {
      const isRefresh = String(init.body).includes('grant_type=refresh_token')
      const isRequest = typeof input !== 'string'
      const url = new URL(isRequest ? input.url : input)
      const method = isRequest ? input.method : (init.method ?? 'GET')
      const tried = new Set<string>()
      let next: Request | string | undefined = input
      await load()
      for (;;) {
        const current: Request | string = next
        const sent = { nonce: nonces.get(url.origin), at: now() }
        const proof = await sign(key, url, method, accessToken)
        if (!proof) return withoutKey(accessToken, isRefresh)
        next = typeof current === 'string' ? current : copyOf(current)
        const response = await platform.fetch(current, withProof(current, init, proof, accessToken))
        const reason = await reasonToRepeat(response, url.origin, sent, accessToken, isRefresh)
        if (!reason || tried.has(reason) || !next) return response
        tried.add(reason)
        response.body?.cancel().catch(() => {})
      }
    },
  }
}
