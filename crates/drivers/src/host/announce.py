# Announces router ports from the host that serves them now. Joined behind ovn.py; runs on gateways of OVN.
import ipaddress
import struct

# What has been found stays: ovn-controller keeps these ports while it runs.
PATCH_PORTS = {}
# Frames that one command is given: far below the length that a command line may have.
FRAMES_MAX = 500
ETH_ARP, ETH_IP6, ETH_VLAN = 0x0806, 0x86dd, 0x8100
ICMP6 = 58


@operation
def ovs_patch_ports(vsctl, localnets):
    """By which bridge and which port of it, by number, each localnet port leads outside; those that this host
    does not have are missing. Both ends of the patch carry the name (ovn-controller(8), "ovn-localnet-port")."""
    if any(name not in PATCH_PORTS for name in localnets):
        ports, interfaces, bridges, switch = ovn_tables(vsctl, [
            ('Port', ['_uuid', 'name', 'external_ids'], 'external_ids:ovn-localnet-port!=""'),
            ('Interface', ['name', 'ofport'], 'type=patch'),
            ('Bridge', ['name', 'ports'], None), ('Open_vSwitch', ['external_ids'], None)])
        inner = ovn_map(switch[0]['external_ids']).get('ovn-bridge', 'br-int')
        bridge_of = {port: row['name'] for row in bridges for port in ovn_many(row['ports'])}
        # OpenFlow cuts names off after 15 characters, so the port is known by its number.
        numbers = {row['name']: ovn_one(row['ofport']) or 0 for row in interfaces}
        for row in ports:
            bridge, number = bridge_of.get(row['_uuid'][1], inner), numbers.get(row['name'], 0)
            if bridge != inner and number > 0:
                PATCH_PORTS[ovn_map(row['external_ids'])['ovn-localnet-port']] = [bridge, number]
    return {name: PATCH_PORTS[name] for name in localnets if name in PATCH_PORTS}


def checksum(data):
    """The Internet checksum of an even number of bytes (RFC 1071)."""
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return total ^ 0xffff


def announcement(mac, tag, address):
    """A frame that tells everyone that an address is at this MAC: a gratuitous ARP request (RFC 5227, 3), or
    an unsolicited neighbour advertisement of a router (RFC 4861, 4.4 and 7.2.6)."""
    source, ip = bytes.fromhex(mac.replace(':', '')), ipaddress.ip_address(address)
    if ip.version == 4:
        to, kind = b'\xff' * 6, ETH_ARP
        body = struct.pack('!HHBBH', 1, 0x0800, 6, 4, 1) + source + ip.packed + bytes(6) + ip.packed
    else:
        everyone = ipaddress.ip_address('ff02::1').packed
        to, kind = b'\x33\x33' + everyone[-4:], ETH_IP6
        # Of a router, and overriding what is known; with the MAC as the target's.
        told = struct.pack('!I', 0xa0000000) + ip.packed + b'\x02\x01' + source
        size = 4 + len(told)
        ends = ip.packed + everyone
        check = checksum(ends + struct.pack('!II', size, ICMP6) + b'\x88\x00\x00\x00' + told)
        body = struct.pack('!IHBB', 6 << 28, size, ICMP6, 255) + ends + struct.pack('!BBH', 136, 0, check) + told
    vlan = struct.pack('!HH', ETH_VLAN, tag) if tag else b''
    return to + source + vlan + struct.pack('!H', kind) + body


@operation
def ovs_announce(vsctl, ofctl, ports):
    """Announces router ports once; which. The others lead outside by no bridge of this host."""
    patches = ovs_patch_ports(vsctl, sorted({name for port in ports for name, _ in port['localnets']}))
    frames, announced = {}, set()
    for port in ports:
        for name, tag in port['localnets']:
            if name in patches:
                frames.setdefault(tuple(patches[name]), []).extend(
                    announcement(port['mac'], tag, address).hex() for address in port['addresses'])
                announced.add(port['port'])
    for (bridge, number), ready in frames.items():
        for first in range(0, len(ready), FRAMES_MAX):
            # As if it came from OVN by this port, so that the bridge learns the way back with it.
            argv = ofctl + ['--timeout=5', 'packet-out', bridge, str(number), 'resubmit(,0)']
            code, output = run(argv + ready[first:first + FRAMES_MAX])
            if code != 0:
                raise Refusal('`%s ...` ended with %d: %s' % (' '.join(argv), code, output.strip()[-300:]))
    return sorted(announced)
