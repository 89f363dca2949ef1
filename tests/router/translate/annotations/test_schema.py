"""The table of fields is complete, agrees with the model, and its defaults are those of the contract."""

import pytest

from drycc_router.model.spec import App, Builder, RouterConfig
from drycc_router.translate.annotations.schema import FIELDS, Effect, Place, defaults, known_keys

OF_THE_CONTRACT = {
    Place.APP: """domains certificates whitelist allowlist denylist connectTimeout tcpTimeout requestTimeout bodySize
        bodyTimeout bodyRate
        maintenance maintenance.page ssl.enabled ssl.enforce ssl.hsts.enabled ssl.hsts.maxAge ssl.hsts.includeSubDomains
        ssl.hsts.preload port upstream referrerPolicy proxyDomain proxyLocations allowLocationsFrom regexDomain
        disableRequestStartHeader nginx.proxyBuffers.enabled nginx.proxyBuffers.number nginx.proxyBuffers.size
        nginx.proxyBuffers.busySize tcellAppID""",
    Place.ROUTER: """platformDomain tcpPorts defaultTimeout bodySize largeHeaderBuffersSize maxHeaders maxTargetSize
        maxConnections maxConnectionsPerClient maxRequestsPerConnection maxRequestsPerApp
               maxQueuedPerApp queueTimeout maxIdleUpstreamConnections upstreamIdleTimeout
        keepAliveTimeout proxyRealIpCidrs
               deniedNetworks allowedNetworks
        useProxyProtocol httpsPort enforceWhitelists defaultWhitelist whitelistMode requestIDs requestStartHeader
        enableRegexDomains defaultServiceEnabled defaultAppName defaultServiceIP disableServerTokens http2Enabled
        referrerPolicy accessLog.format accessLog.enabled gzip.enabled gzip.compLevel gzip.disable gzip.httpVersion
        gzip.minLength gzip.proxied gzip.types gzip.vary ssl.enforce ssl.hsts.enabled ssl.hsts.maxAge
        ssl.hsts.includeSubDomains ssl.hsts.preload ssl.protocols ssl.ciphers ssl.sessionTimeout ssl.sessionCache
        ssl.useSessionTickets ssl.bufferSize ssl.earlyDataMethods errorLogLevel workerProcesses maxWorkerConnections
        trafficStatusZoneSize serverNameHashMaxSize serverNameHashBucketSize largeHeaderBuffersCount
        loadModsecurityModule loadTcellModule globalTcellAppID http2MaxHeaderSize http2MaxFieldSize logFormat
        proxyBuffers.enabled proxyBuffers.number proxyBuffers.size proxyBuffers.busySize""",
    Place.BUILDER: "connectTimeout tcpTimeout proxyProtocol connectionsPerClient connectionRate",
}


@pytest.mark.parametrize("place", Place)
def test_every_key_of_the_contract_and_of_the_ancestors_is_there_and_no_other(place: Place) -> None:
    assert set(known_keys(place)) == set(OF_THE_CONTRACT[place].split())


@pytest.mark.parametrize(("place", "model"), [(Place.APP, App), (Place.ROUTER, RouterConfig), (Place.BUILDER, Builder)])
def test_the_table_fills_the_model_exactly(place: Place, model: type[App | RouterConfig | Builder]) -> None:
    filled = [field.attribute for field in FIELDS if field.place is place and field.attribute]

    assert sorted(filled) == sorted(model.__struct_fields__)


def test_what_has_an_effect_fills_the_model_and_nothing_else_does() -> None:
    for field in FIELDS:
        assert bool(field.attribute) == (field.effect is Effect.NOW), field.key


def test_every_field_explains_itself() -> None:
    for field in FIELDS:
        assert field.help.endswith("."), field.key


def test_the_defaults_of_an_app() -> None:
    app = App(**defaults(Place.APP))

    assert (app.domains, app.certificates, app.allow, app.deny) == ((), (), None, ())
    assert (app.connect_timeout, app.tcp_timeout, app.request_timeout) == (30.0, None, 0.0)
    assert (app.body_size, app.body_timeout, app.body_rate) == (None, 30.0, 240)
    assert (app.maintenance, app.upstream, app.port, app.disable_request_start) == (False, "endpoints", None, False)


def test_the_defaults_of_the_router() -> None:
    config = RouterConfig(**defaults(Place.ROUTER))

    assert config.default_timeout == 1300.0
    assert (config.body_size, config.max_head, config.max_fields) == (0, 32 * 1024, 100)
    assert (config.trusted, config.default_allow, config.enforce_allow) == ((), None, False)
    assert (config.request_ids, config.request_start) == (True, False)
    assert (config.ssl_protocols, config.ssl_session_tickets) == (("TLSv1.2", "TLSv1.3"), True)
    assert (config.hsts_enabled, config.hsts_max_age) == (False, 15552000)
    assert (config.log_format, config.log_enabled) == ("json", True)
