/**
 * A model of an authorization server, in the ways in which servers differ, and of the API that
 * takes its tokens. It knows the truth, which the invariants ask for.
 */
import { createHash } from 'node:crypto'
import type { Chance } from './chance.js'
import { createProofs, partOfJwt } from './proofs.js'

/** How an authorization server behaves where servers differ. */
export interface ServerKind {
  /**
   * `strict`: a refresh token works once, its reuse revokes the grant. `grace`: it works again for
   * `grace` ms. `none`: it stays the same.
   */
  rotation: 'strict' | 'grace' | 'none'
  /** ms */
  grace: number
  /** After a grant was revoked, `prompt=none` gives a new one (else: `consent_required`). */
  remembersConsent: boolean
  /** What becomes of a hidden frame: cookies may be blocked, the frame may never load or report. */
  silentLogin: 'works' | 'no cookies' | 'hangs' | 'blocked'
  /** Silent login brings a refresh token, too. */
  silentRefreshToken: boolean
  /** Interactive sign-ins bring a refresh token. */
  refreshTokens: boolean
  /** s; undefined: not said, an hour */
  lifetime: number | undefined
  /** Access tokens die with their grant. */
  revokesAccessTokens: boolean
  /** All sign-ins of one user share a grant. */
  sharesGrants: boolean
  /** A refresh brings an ID token. */
  refreshIdToken: boolean
  /** Tokens are bound to a key; `with nonces`: each proof has to have one of the server's. */
  dpop?: 'without nonces' | 'with nonces'
  /** `id_token_hint` of another user: `login_required`, rather than an answer for the other one. */
  honoursHint: boolean
}

export interface Answer {
  status: number
  headers?: Record<string, string>
  body?: string
}

interface Grant {
  subject: string
  revoked: boolean
}

interface RefreshToken {
  grant: Grant
  /** The key that it is bound to. */
  key?: string
  value: string
  /** The token that this one came for. */
  parent?: string
  usedAt?: number
}

interface Code {
  grant: Grant
  asked: URLSearchParams
  refreshToken: boolean
  used?: boolean
}

export const issuer = 'https://login.example'

const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

const json = (body: object, status = 200): Answer => ({
  status,
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

const refuse = (error: string): Answer => json({ error }, 400)

/** The members of a JSON answer, if it is one. */
export const bodyOf = ({ body = '' }: Answer): Record<string, unknown> => {
  try {
    return Object(JSON.parse(body))
  } catch {
    return {}
  }
}

export const subjectOfIdToken = (idToken: unknown): string | undefined => {
  if (typeof idToken !== 'string') return
  return partOfJwt(idToken, 1).sub
}

/** An authorization server, and the API that takes its tokens. Its clock is right. */
export const createModelServer = (kind: ServerKind, now: () => number, chance: Chance) => {
  const codes = new Map<string, Code>()
  const grants: Grant[] = []
  const refreshTokens = new Map<string, RefreshToken>()
  const accessTokens = new Map<string, { grant: Grant; expiresAt: number; key?: string }>()
  const { readProof, withNonce } = createProofs(kind, now)
  /** Whose cookie the browser has. */
  let browserUser: string | undefined
  const needConsent = new Set<string>()
  let refusesAll = false
  let count = 0

  const revoke = (grant: Grant) => {
    grant.revoked = true
    if (!kind.remembersConsent) needConsent.add(grant.subject)
  }

  const grantFor = (subject: string): Grant => {
    const shared = grants.find((grant) => grant.subject === subject && !grant.revoked)
    if (shared && kind.sharesGrants) return shared
    const grant = { subject, revoked: false }
    grants.push(grant)
    return grant
  }

  const idTokenFor = (subject: string, clientId: string, nonce?: string) => {
    const iat = Math.floor(now() / 1000)
    const claims = { iss: issuer, sub: subject, aud: clientId, iat, exp: iat + 600, nonce }
    return `${base64url({ alg: 'RS256', typ: 'JWT' })}.${base64url(claims)}.c2lnbmF0dXJl`
  }

  const issue = (
    grant: Grant,
    params: URLSearchParams,
    more: {
      refreshToken: boolean
      parent?: string
      idToken: boolean
      nonce?: string
      key?: string
    },
  ): Answer => {
    const n = ++count
    const accessToken = `access-${n}-${grant.subject}`
    const lifetime = (kind.lifetime ?? 3600) * 1000
    accessTokens.set(accessToken, { grant, expiresAt: now() + lifetime, key: more.key })
    const value = more.refreshToken ? `refresh-${n}-${grant.subject}` : undefined
    if (value) refreshTokens.set(value, { grant, value, parent: more.parent, key: more.key })
    return json({
      access_token: accessToken,
      token_type: kind.dpop ? 'DPoP' : 'Bearer',
      expires_in: kind.lifetime,
      refresh_token: value,
      id_token: more.idToken
        ? idTokenFor(grant.subject, params.get('client_id') ?? '', more.nonce)
        : undefined,
    })
  }

  const redeem = (params: URLSearchParams, key: string | undefined): Answer => {
    const code = codes.get(params.get('code') ?? '')
    if (!code) return refuse('invalid_grant')
    const challenge = createHash('sha256')
      .update(params.get('code_verifier') ?? '')
      .digest('base64url')
    if (challenge !== code.asked.get('code_challenge')) return refuse('invalid_grant')
    if (code.used) {
      // RFC 6749 4.1.2: what was issued for it should be revoked.
      if (kind.rotation === 'strict') revoke(code.grant)
      return refuse('invalid_grant')
    }
    code.used = true
    return issue(code.grant, params, {
      refreshToken: code.refreshToken,
      idToken: true,
      nonce: code.asked.get('nonce') ?? undefined,
      key,
    })
  }

  /** Would this refresh token be taken now? */
  const takes = (token: RefreshToken): boolean => {
    if (token.grant.revoked) return false
    if (token.usedAt === undefined || kind.rotation === 'none') return true
    return kind.rotation === 'grace' && now() - token.usedAt <= kind.grace
  }

  const refresh = (params: URLSearchParams, key: string | undefined): Answer => {
    const token = refreshTokens.get(params.get('refresh_token') ?? '')
    if (!token || token.key !== key) return refuse('invalid_grant')
    if (!takes(token)) {
      if (!token.grant.revoked) revoke(token.grant)
      return refuse('invalid_grant')
    }
    token.usedAt ??= now()
    return issue(token.grant, params, {
      refreshToken: kind.rotation !== 'none',
      parent: token.value,
      idToken: kind.refreshIdToken,
      key,
    })
  }

  /** What `prompt=none` would be answered now: for whom, or why not. */
  const silentAnswer = (hint?: string): { subject: string } | { error: string } => {
    if (!browserUser || kind.silentLogin === 'no cookies') return { error: 'login_required' }
    if (hint && hint !== browserUser && kind.honoursHint) return { error: 'login_required' }
    if (needConsent.has(browserUser)) return { error: 'consent_required' }
    return { subject: browserUser }
  }

  const back = (asked: URLSearchParams, params: Record<string, string>): string => {
    const url = new URL(asked.get('redirect_uri') ?? '')
    const all = { ...params, state: asked.get('state') ?? '', iss: issuer }
    for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value)
    return url.href
  }

  const newCode = (asked: URLSearchParams, subject: string, refreshToken: boolean): string => {
    const code = `code-${++count}`
    codes.set(code, { grant: grantFor(subject), asked, refreshToken })
    return back(asked, { code })
  }

  return {
    kind,

    /** A browser arrives at the authorization endpoint; where it is sent back to. */
    authorize: (url: string, user: { signsIn?: string; cancels?: boolean } = {}): string => {
      const asked = new URL(url).searchParams
      if (asked.get('prompt') === 'none') {
        const answer = silentAnswer(subjectOfIdToken(asked.get('id_token_hint')))
        if ('error' in answer) return back(asked, answer)
        return newCode(asked, answer.subject, kind.silentRefreshToken)
      }
      if (user.cancels) return back(asked, { error: 'access_denied' })
      const subject = user.signsIn ?? 'alice'
      browserUser = subject
      needConsent.delete(subject)
      return newCode(asked, subject, kind.refreshTokens)
    },

    /** A browser arrives at the end of the session; where it is sent back to. */
    endSession: (url: string): string => {
      browserUser = undefined
      const asked = new URL(url).searchParams
      const back = new URL(asked.get('post_logout_redirect_uri') ?? '')
      back.searchParams.set('state', asked.get('state') ?? '')
      return back.href
    },

    /** A request of a worker. */
    serve: (url: string, params: URLSearchParams, proof?: string): Answer => {
      const { pathname } = new URL(url)
      switch (pathname) {
        case '/.well-known/openid-configuration':
          return json({
            issuer,
            authorization_endpoint: `${issuer}/authorize`,
            token_endpoint: `${issuer}/token`,
            revocation_endpoint: `${issuer}/revoke`,
            end_session_endpoint: `${issuer}/logout`,
            jwks_uri: `${issuer}/jwks`,
            code_challenge_methods_supported: ['S256'],
            authorization_response_iss_parameter_supported: true,
          })
        case '/token': {
          const { key, error } = readProof(proof)
          if (error) return withNonce(refuse(error))
          const isRefresh = params.get('grant_type') === 'refresh_token'
          return withNonce(isRefresh ? refresh(params, key) : redeem(params, key))
        }
        case '/revoke': {
          const token = refreshTokens.get(params.get('token') ?? '')
          if (token) token.grant.revoked = true
          return { status: 200 }
        }
        default:
          return { status: 200, body: 'ok' }
      }
    },

    /** The API: what is wrong with the proof of a request. */
    proofError: (proof: string | undefined) => {
      const { error } = readProof(proof)
      return error === undefined ? undefined : withNonce({ status: 401, body: error })
    },

    /** The API: whom it takes this request for. */
    subjectOf: (accessToken: string): string | undefined => {
      const found = accessTokens.get(accessToken)
      if (!found || now() >= found.expiresAt || refusesAll) return
      return kind.revokesAccessTokens && found.grant.revoked ? undefined : found.grant.subject
    },

    /** Whose token this is, good or not. */
    ownerOf: (accessToken: string | undefined) =>
      accessTokens.get(accessToken ?? '')?.grant.subject,

    /** The API no longer takes any access token that there is, for whatever reason. */
    spoilAccessTokens: () => {
      for (const token of accessTokens.values()) token.expiresAt = 0
    },

    /** An administrator ends everything of one user. */
    revokeAll: () => {
      const [subject] = [...new Set(grants.map((grant) => grant.subject))].filter(() =>
        chance.is(0.7),
      )
      for (const grant of grants) if (grant.subject === subject) revoke(grant)
      if (browserUser === subject && chance.is(0.5)) browserUser = undefined
    },

    /** The cookie expires, or somebody signs in by way of another app. */
    setBrowserUser: (user: string | undefined) => {
      browserUser = user
    },

    /** The API refuses tokens that are good. */
    refuseAtApi: (value: boolean) => {
      refusesAll = value
    },

    wouldTake: (refreshToken: string | undefined): boolean => {
      const token = refreshTokens.get(refreshToken ?? '')
      return token !== undefined && takes(token)
    },
    wouldSignIn: (subject: string | undefined): boolean => {
      if (kind.silentLogin !== 'works') return false
      const answer = silentAnswer(subject)
      return 'subject' in answer && answer.subject === subject
    },
    parentOf: (refreshToken: string) => refreshTokens.get(refreshToken)?.parent,
  }
}

export type ModelServer = ReturnType<typeof createModelServer>
