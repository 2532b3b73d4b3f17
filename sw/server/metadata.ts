import type * as oauth from 'oauth4webapi'
import { TokenError } from '../../src/shared/errors.js'
import { secureUrl } from '../http/secure-url.js'
import { endpointOf } from '../http/server-path.js'
import type { Platform } from '../platform.js'
import { activeOf } from '../session/records.js'
import type { Store } from '../session/store.js'
import { singleFlight } from '../single-flight.js'
import { ageOf } from '../values/age.js'
import { must } from '../values/must.js'
import { acceptJson, type Exchange } from './exchange.js'

/** Authorization server metadata: RFC 8414, OpenID Connect Discovery 1.0. */
export type AuthorizationServerMetadata = oauth.AuthorizationServer

/** What the metadata needs of the configuration. */
export interface MetadataConfig {
  issuer: string
  /** Given metadata; absent if the worker discovers it. */
  metadata?: AuthorizationServerMetadata
  /** The worker's scope. */
  root: string
  /** With it, the keys of the server are used. */
  idTokenSignature?: unknown
  /** With it, the server's own logout is not used. */
  logoutUrl?: unknown
}

/** The server's metadata, wherever it comes from. */
export interface MetadataSource {
  /**
   * The metadata: given, remembered, stored for a day, or discovered; an old one if need be.
   *
   * @param anew What is known does not fit what the server does: asks for it, unless it is given
   */
  get(anew?: boolean): Promise<AuthorizationServerMetadata>
  /**
   * The metadata as the server has it now, if this worker can get it: a script may have taken
   * something off the stored ones.
   */
  getFresh(): Promise<AuthorizationServerMetadata>
  /** The endpoints that never get a token (see `endpointOf`); empty until they are known. */
  endpoints(): readonly string[]
  /** Takes the endpoints from the stored metadata, however old, without asking the server. */
  recallEndpoints(): Promise<void>
}

/** ms */
const metadataLife = 24 * 3_600_000
/** ms. There are others that will do. */
const freshLimit = 5_000

/**
 * Checks what the worker uses of the server's metadata, given or discovered. What it does not use
 * decides nothing, and is left out where it is bad.
 *
 * @throws TokenError `invalid_configuration`
 */
export const checkMetadata = (
  metadata: object,
  { issuer, root, idTokenSignature, logoutUrl }: Omit<MetadataConfig, 'metadata'>,
): AuthorizationServerMetadata => {
  const given: Record<string, unknown> = { ...metadata }
  must(
    given['issuer'] === issuer,
    'issuer',
    `is "${issuer}", but the server calls itself "${given['issuer']}". They must be the same to ` +
      'the last slash. Where more than a slash differs (Entra’s common, Azure AD B2C, Oracle ' +
      'IDCS), neither name will do for both: give the option issuer the metadata by hand ' +
      '(docs/recipes.md#metadata-by-hand).',
  )
  for (const [name, isUsed] of Object.entries({
    authorization_endpoint: true,
    token_endpoint: true,
    pushed_authorization_request_endpoint: given['require_pushed_authorization_requests'],
    end_session_endpoint: given['end_session_endpoint'] && !logoutUrl,
    jwks_uri: given['jwks_uri'] && idTokenSignature,
    revocation_endpoint: false,
  })) {
    try {
      secureUrl(`issuer: ${name}`, given[name], new URL(root))
    } catch (cause) {
      if (isUsed) throw cause
      given[name] = undefined
    }
  }
  const { code_challenge_methods_supported: methods } = given
  must(
    [methods ?? 'S256'].flat().includes('S256'),
    'issuer: code_challenge_methods_supported',
    'lacks S256: the server does not support PKCE with S256.',
  )
  return given as AuthorizationServerMetadata
}

/** The names of all endpoints, except of the one that is an API: userinfo. */
const endpointsOf = (metadata: AuthorizationServerMetadata): string[] => {
  const all = [metadata, metadata.mtls_endpoint_aliases ?? {}].flatMap(Object.entries)
  return all.flatMap(([name, value]) =>
    /(?<!userinfo)_endpoint$|^jwks_uri$/.test(name) && URL.canParse(value)
      ? endpointOf(new URL(value))
      : [],
  )
}

const isSameOrigin = (a: string, b: string): boolean => new URL(a).origin === new URL(b).origin

/** Reads what the server publishes of itself (OpenID Connect Discovery 1.0, 4). */
const discover = async (
  config: MetadataConfig,
  exchange: Pick<Exchange, 'readDocument'>,
  limit?: number,
): Promise<AuthorizationServerMetadata> => {
  const url = new URL(config.issuer)
  url.pathname = `${url.pathname}/.well-known/openid-configuration`.replace('//', '/')
  const document = { what: 'metadata', url: url.href, headers: acceptJson, limit } as const
  return checkMetadata(await exchange.readDocument(document), config)
}

export function createMetadataSource({
  config,
  store,
  exchange,
  now,
  reportProblem,
}: {
  config: MetadataConfig
  store: Pick<Store, 'read' | 'readMetadata' | 'writeMetadata'>
  exchange: Pick<Exchange, 'readDocument'>
  now: Platform['now']
  reportProblem?: (error: TokenError) => Promise<unknown>
}): MetadataSource {
  const { issuer } = config
  let known: AuthorizationServerMetadata | undefined
  let endpoints: readonly string[] = []
  /** It comes from the configuration, or from the server to this worker. */
  let isFresh = config.metadata !== undefined

  const remember = (metadata: AuthorizationServerMetadata) => {
    known = metadata
    endpoints = endpointsOf(metadata)
    return metadata
  }
  if (config.metadata) remember(config.metadata)

  /**
   * Stored metadata is checked like discovered metadata, because pages can write to the database
   * too. It only counts if all its endpoints lie at the issuer's own origin: so a script that once
   * ran in a page cannot send refresh tokens elsewhere. If a server spreads over several origins,
   * each worker that needs the metadata asks for it.
   */
  const readStored = async () => {
    const stored = await store.readMetadata()
    if (!stored) return
    const metadata = checkMetadata(stored.metadata, config)
    return endpointsOf(metadata).every((url) => isSameOrigin(url, issuer))
      ? { ...stored, metadata }
      : undefined
  }

  /** @param former The stored metadata, whose endpoints all lie at the issuer */
  const refetch = singleFlight(async (former: object | undefined, limit?: number) => {
    const discovered = await discover(config, exchange, limit)
    const { token_endpoint: endpoint } = discovered
    // A signed-out user has nothing to lose that a first visit would not lose as well.
    const isMove = former && !isSameOrigin(endpoint as string, issuer)
    if (isMove && activeOf(await store.read())) {
      throw new TokenError(
        'invalid_configuration',
        `${issuer} has moved its token endpoint to ${endpoint}, which is not used yet. Give the ` +
          'option issuer the metadata itself, or sign out.',
      )
    }
    await store.writeMetadata(discovered).catch(() => {})
    isFresh = true
    return remember(discovered)
  })

  const recall = async (): Promise<AuthorizationServerMetadata> => {
    if (known) return known
    const stored = await readStored().catch(() => undefined)
    if (stored && ageOf(stored.fetchedAt, now()) < metadataLife) return remember(stored.metadata)
    try {
      return await refetch(stored)
    } catch (error) {
      if (!stored || !(error instanceof TokenError)) throw error
      if (!error.transient) await reportProblem?.(error)
      return remember(stored.metadata)
    }
  }

  return {
    endpoints: () => endpoints,

    recallEndpoints: async () => {
      const stored = known ? undefined : await readStored().catch(() => undefined)
      if (stored) endpoints = endpointsOf(stored.metadata)
    },

    getFresh: async () => {
      const usable = await recall()
      // An outage leaves it at what is stored.
      return isFresh ? usable : await refetch(usable, freshLimit).catch(() => usable)
    },

    get: async (anew) => {
      if (!anew || config.metadata) return await recall()
      return await refetch(await readStored().catch(() => undefined), freshLimit).catch(recall)
    },
  }
}
