//! gRPC calls by name with JSON messages, over the project's own proto files: what scripted scenarios need.

use std::path::Path;
use std::sync::LazyLock;

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions,
};
use serde_json::Value;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

/// Larger than anything a scenario sends or gets.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files =
        ["etcdserverpb/rpc.proto", "grpc/health/v1/health.proto"].map(|file| root.join(file));
    let set = protox::compile(files, [root]).expect("proto files compile");
    DescriptorPool::from_file_descriptor_set(set).expect("descriptors")
});

/// The method a scenario calls `KV/Put`.
pub fn method(name: &str) -> MethodDescriptor {
    let (service, method) = name.split_once('/').expect("Service/Method");
    let service = match service {
        "Health" => "grpc.health.v1.Health".to_owned(),
        short => format!("etcdserverpb.{short}"),
    };
    let service = POOL
        .get_service_by_name(&service)
        .unwrap_or_else(|| panic!("no {service}"));
    let found = service.methods().find(|m| m.name() == method);
    found.unwrap_or_else(|| panic!("no method {name}"))
}

/// The path of a method on the wire.
pub fn path(method: &MethodDescriptor) -> PathAndQuery {
    let service = method.parent_service().full_name();
    format!("/{service}/{}", method.name())
        .parse()
        .expect("path")
}

/// A message from protobuf JSON.
pub fn build(descriptor: MessageDescriptor, json: &Value) -> DynamicMessage {
    DynamicMessage::deserialize(descriptor, json)
        .unwrap_or_else(|error| panic!("request {json}: {error}"))
}

/// Protobuf JSON with the original field names.
pub fn to_json(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("reply as JSON")
}

/// A client that takes large messages.
pub async fn connect(endpoint: &str) -> tonic::client::Grpc<Channel> {
    let channel = Endpoint::from_shared(format!("http://{endpoint}"))
        .expect("endpoint")
        .connect()
        .await
        .expect("connect");
    tonic::client::Grpc::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Encodes and decodes messages known only by descriptor.
#[derive(Clone)]
pub struct DynamicCodec(pub MethodDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(self.0.output())
    }
}

/// See [`DynamicCodec`].
pub struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item.encode_to_vec());
        Ok(())
    }
}

/// See [`DynamicCodec`].
pub struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        DynamicMessage::decode(self.0.clone(), bytes)
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}
